package plan

import "fmt"

// Check is what HAProxy's last check of a server that is down came to.
type Check struct {
	Status string // HAProxy's word, e.g. L7STS; "" if none has ended yet
	Code   int    // of the answer; 0 is none
	Words  string // HAProxy's, or the server's own: anyone's, but printable
	Path   string // what the check gets; "" if it does not speak HTTP
}

// String returns the check for people, e.g. `L7STS 404: GET /healthz → 404 Not Found`
// or `L4CON: Connection refused`; "" if none has ended yet.
func (c Check) String() string {
	out, words := c.Status, c.Words
	if c.Code > 0 {
		out += fmt.Sprintf(" %d", c.Code)
		if c.Path != "" {
			words = fmt.Sprintf("GET %s → %d %s", c.Path, c.Code, c.Words)
		}
	}
	if words != "" && out != "" {
		out += ": " + words
	}
	return out
}
