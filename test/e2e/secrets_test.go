package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// hush begins every secret of these tests, and stands nowhere else.
const hush = "hush-hush-"

// A secret in every place that takes one, and in some that don't: it is in no
// log, page, metric, JSON or error.
func TestSecretsAreNeverShown(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	w.must(w.lb.SetExtra("log: {level: trace}"))
	tokens := w.Path("token")
	w.must(os.WriteFile(tokens, []byte(hush+"of-the-file"), 0o600))
	environ := []string{
		"POINTSMAN_CONSUL_HTTP_AUTH=user:" + hush + "of-the-proxy",
		"POINTSMAN_API_TOKEN=" + hush + "of-the-api",
		"POINTSMAN_CONSUL_TOKEN_FILE=" + tokens,
	}
	w.lb.SetEnviron(environ...)
	w.must(w.lb.StartSidecar())
	w.must(w.lb.StartHAProxy(w.ctx))
	w.nodes = w.startNodes("1.0", "old", 1)

	said := map[string]string{} // what was said, by who said it
	paths := []string{"/", "/healthz", "/readyz", "/metrics", "/api/v1/state", "/api/v1/live/api?wait=0s", "/api/v1/drain/api/old0?wait=0s", "/nothing"}
	w.must(lab.Until(w.ctx, 15*time.Second, "the sidecar is ready", func() error {
		_, code, err := w.getWith(w.lb.StatusURL()+"/readyz", hush+"of-the-api")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		return err
	}))
	for _, path := range paths {
		for _, token := range []string{"", hush + "wrong", hush + "of-the-api"} {
			body, code, err := w.getWith(w.lb.StatusURL()+path, token)
			w.must(err)
			said[fmt.Sprintf("%s with token %q: %d", path, token, code)] = body
		}
	}
	for _, args := range [][]string{{"check"}, {"plan"}, {"plan", "--json"}, {"render"}, {"version"}, {"run", "--help"}} {
		out, code := sidecar(t, environ, append(args, "--config", w.lb.Settings())...)
		if code > 1 {
			t.Errorf("%v: exit code %d:\n%s", args, code, out)
		}
		said[strings.Join(args, " ")] = out
	}

	for _, variable := range []string{"POINTSMAN_CONSUL_TOKEN", "CONSUL_HTTP_TOKEN"} {
		for _, command := range []string{"check", "plan"} {
			out, code := sidecar(t, []string{variable + "=" + hush + "of-consul"}, command, "--config", w.lb.Settings())
			if code != 0 {
				t.Errorf("%s by %s: exit code %d:\n%s", command, variable, code, out)
			}
			said[command+" by "+variable] = out
		}
	}

	// An error shows everything except the secret.
	good, err := os.ReadFile(w.lb.Settings())
	w.must(err)
	for name, wrong := range misplaced(w) {
		path := filepath.Join(w.Dir(), "wrong.yaml")
		w.must(os.WriteFile(path, []byte(wrong.settings(string(good))), 0o600))
		out, code := sidecar(t, wrong.environ, "check", "--config", path)
		if code == 0 || strings.TrimSpace(out) == "" {
			t.Errorf("%s: exit code %d:\n%s", name, code, out)
		}
		said[name] = out
	}
	w.must(os.WriteFile(w.lb.Settings(), append(good, []byte("consul_token: "+hush+"misplaced\n")...), 0o600))
	w.must(w.lb.Reread())
	w.logged("invalid configuration, keeping current")
	w.must(os.WriteFile(tokens, []byte(hush+"with a space"), 0o600)) // is no token
	w.must(w.consul.Kill())
	w.logged("Consul query failed")

	content, err := os.ReadFile(w.lb.Sidecar.Log)
	w.must(err)
	said["the log"] = string(content)
	file, err := os.ReadFile(w.lb.Config())
	w.must(err)
	said["haproxy.cfg"] = string(file)
	for who, text := range said {
		if at := strings.Index(text, hush); at >= 0 {
			t.Errorf("%s shows a secret: …%q", who, text[max(0, at-100):min(len(text), at+60)])
		}
	}
	if !strings.Contains(said["the log"], "[DEBUG]") {
		t.Error("the log is not of level trace: this proves little")
	}
}

// mistake is a secret where it is not taken.
type mistake struct {
	replace [2]string // in the settings
	environ []string
}

func (m mistake) settings(good string) string {
	return strings.Replace(good, m.replace[0], m.replace[1], 1)
}

func misplaced(w *world) map[string]mistake {
	at := "address: " + w.consul.Address()
	return map[string]mistake{
		"a token under a misspelt key":       {replace: [2]string{at, at + "\n  tokn: " + hush + "x"}},
		"a token in a misspelt variable":     {environ: []string{"POINTSMAN_CONSUL_TOKN=" + hush + "x"}},
		"a token with a newline":             {environ: []string{"POINTSMAN_CONSUL_TOKEN=" + hush + "x\ny"}},
		"a token with a space in the file":   {replace: [2]string{at, at + "\n  token: \"" + hush + "x y\""}},
		"a token that is a list":             {replace: [2]string{at, at + "\n  token: [" + hush + "x]"}},
		"a token that is a map":              {replace: [2]string{at, at + "\n  token: {" + hush + "x: y}"}},
		"a password in the address":          {replace: [2]string{at, "address: http://user:" + hush + "x@" + w.consul.Address()}},
		"a password in the address variable": {environ: []string{"POINTSMAN_CONSUL_ADDRESS=http://user:" + hush + "x@127.0.0.1:1"}},
		"a password in Consul's variable":    {environ: []string{"CONSUL_HTTP_ADDR=http://user:" + hush + "x@127.0.0.1:1"}, replace: [2]string{"  " + at, "  wait: 1m"}},
		"a token of the API with a newline":  {environ: []string{"POINTSMAN_API_TOKEN=" + hush + "x\ny"}},
		"a file that is no YAML":             {replace: [2]string{at, at + "\n  token: \"" + hush + "x"}},
	}
}

// getWith asks with a token, or with none.
func (w *world) getWith(url, token string) (body string, code int, err error) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", 0, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	text, err := io.ReadAll(resp.Body)
	for name, values := range resp.Header {
		body += name + ": " + strings.Join(values, ", ") + "\n"
	}
	return body + string(text), resp.StatusCode, err
}
