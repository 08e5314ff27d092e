package load

import (
	"encoding/json"
	"net/http"
)

// maxName is the longest name of an instance or version that is believed.
const maxName = 64

// answer is what an API node says in its body.
type answer struct {
	Instance string `json:"instance"`
	Version  string `json:"version"`
	ID       string `json:"id"`
	Length   *int   `json:"length"`
	SHA256   string `json:"sha256"`
}

// judge reports whether the whole answer, of an expected status, is the one to this
// request. text is what was read of its body.
func (c *Config) judge(r request, header http.Header, text []byte) outcome {
	if c.Body != nil && !c.Body.Match(text[:min(len(text), maxAnswer)]) {
		return failed(Body, "no match of %s: %s", c.Body, snippet(text))
	}
	if c.Echo {
		return judgeEcho(r, header, text)
	}
	o := outcome{instance: header.Get(c.ServerHeader)}
	if !isName(o.instance) {
		o.instance = ""
	}
	return o
}

// judgeEcho is judge for an answer of an API node.
func judgeEcho(r request, header http.Header, text []byte) outcome {
	if len(text) > maxAnswer {
		return failed(Body, "the answer is longer than %d bytes", maxAnswer)
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return failed(Body, "not the JSON of an API node: %v: %s", err, snippet(text))
	}
	switch {
	case !isName(a.Instance) || !isName(a.Version):
		return failed(Body, "instance %.80q, version %.80q: not 1 to %d printable characters", a.Instance, a.Version, maxName)
	case a.ID != r.id:
		return failed(Body, "id: got %.80q, want %q: the answer to another request", a.ID, r.id)
	case header.Get("X-Api-Version") != a.Version:
		return failed(Body, "version: header says %.80q, body %q", header.Get("X-Api-Version"), a.Version)
	case header.Get("X-Api-Instance") != a.Instance:
		return failed(Body, "instance: header says %.80q, body %q", header.Get("X-Api-Instance"), a.Instance)
	case r.method != http.MethodPost:
	case a.Length == nil || *a.Length != len(r.body):
		return failed(Body, "length of the body that arrived: want %d: %s", len(r.body), snippet(text))
	case a.SHA256 != r.sum:
		return failed(Body, "SHA-256 of the body that arrived: got %.80q, want %s", a.SHA256, r.sum)
	}
	return outcome{instance: a.Instance, version: a.Version}
}

func isName(s string) bool {
	for _, r := range s {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}
