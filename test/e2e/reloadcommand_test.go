package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// An operator changes a file that only HAProxy reads, and has it loaded. What HAProxy
// refuses is shown with its message, and old workers are waited for.
func TestReloadCommand_OperatorsFileChanged_LoadedOrRefusedInHAProxysWords(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes", BackendOnly: true})
	port, err := w.Port()
	w.must(err)
	base := w.lb.Path("haproxy.cfg")
	theirs := func(answer string) {
		w.must(os.WriteFile(base, fmt.Appendf(nil, `global
    stats socket %s mode 660 level admin expose-fd listeners
    hard-stop-after 60s
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
frontend site
    bind 127.0.0.1:%d
    option idle-close-on-response
    http-request return status 200 content-type text/plain string %s if { path /own }
    default_backend api_nodes
`, w.lb.Socket(), port, answer), 0o644))
	}
	theirs("first")
	w.must(w.lb.SetConfig("pointsman.cfg"))
	w.must(w.lb.SetHAProxy(fmt.Sprintf("  base_config: %s\n", base)))
	w.must(w.lb.SetExtra("reload: {max_old_workers: 1, min_interval: 1s}\n"))
	if out, code := sidecar(t, nil, "render", "--write", "--config", w.lb.Settings()); code != 0 {
		t.Fatalf("render --write: exit code %d:\n%s", code, out)
	}
	w.lb.HAProxy, err = w.Start("haproxy", programs.HAProxy, "-W", "-S", w.lb.Master(), "-f", base, "-f", w.lb.Config())
	w.must(err)
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.nodes = w.startNodes("1.0", "n", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))

	says := func(code int, args string, want ...string) {
		t.Helper()
		out, got := sidecar(t, nil, append(strings.Fields(args), "--config", w.lb.Settings())...)
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("%s: the output has no %q:\n%s", args, text, out)
			}
		}
		if got != code {
			t.Errorf("%s: exit code %d, want %d:\n%s", args, got, code, out)
		}
	}
	serves := func(want string) {
		t.Helper()
		w.must(lab.Until(w.ctx, 10*time.Second, "HAProxy answers "+want, func() error {
			req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/own", port), http.NoBody)
			if err != nil {
				return err
			}
			req.Close = true // no old worker waits for this connection
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }() // it has been read
			got, err := io.ReadAll(resp.Body)
			if err == nil && string(got) != want {
				err = fmt.Errorf("got %q", got)
			}
			return err
		}))
	}
	serves("first")
	theirs("second")
	says(0, "reload", "lb0: HAProxy reloaded, ")
	serves("second")

	theirs("third\n    nonsense here")
	says(1, "reload", "reload failed: ", "nonsense", base+":")
	serves("second")
	says(5, "status", "reload requested by ", "previous configuration still active", "nonsense")
	says(0, "explain reload", ": failed: ", "nonsense", "reload failed: requested by ")
	says(0, "events", "reload done: requested by ", "reload failed: requested by ")
	for result, want := range map[string]float64{"ok": 1, "failed": 1} {
		if n, err := w.lb.Metric(w.ctx, fmt.Sprintf(`pointsman_reloads_total{reason="requested",result=%q}`, result)); err != nil || n != want {
			t.Errorf("reloads with the result %s: got %v, %v, want %v", result, n, err, want)
		}
	}

	// A request that takes its time keeps an old worker: the next reload waits for it.
	theirs("third")
	conn, err := (&net.Dialer{}).DialContext(w.ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	w.must(err)
	defer func() { _ = conn.Close() }() // it is read to its end
	_, err = fmt.Fprintf(conn, "GET /slow?ms=8000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	w.must(err)
	w.must(lab.Until(w.ctx, 10*time.Second, "the request is at the node", func() error {
		n, err := w.lb.Requests(w.ctx, "api_nodes")
		if err == nil && n == 0 {
			err = errors.New("no request")
		}
		return err
	}))
	says(0, "reload --json", `"status":"done"`)
	serves("third")
	theirs("fourth")
	says(1, "reload --wait 2s", "not reloaded within 2s, still due; waits for old workers (1 with ")
	says(0, "explain reload", "due, requested: an operator asked for it", "waits        old workers", ": due\n")
	says(3, "status", "reload due: requested by ", "waits for old workers")
	serves("third")
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Errorf("the request in the old worker: %.200q, %v", answer, err)
	}
	w.reloaded(20*time.Second, 3)
	serves("fourth")
	says(0, "explain reload", ": done\n", "3 succeeded, 1 failed")

	w.must(w.lb.HAProxy.Kill())
	w.must(lab.Until(w.ctx, 10*time.Second, "the sidecar has seen it", func() error {
		if s := w.state(); s.HAProxy.Running {
			return fmt.Errorf("%+v", s.HAProxy)
		}
		return nil
	}))
	says(1, "reload", "nothing to reload: HAProxy does not run or cannot be read")

	// Over TCP it takes an authority, as every action does.
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.lb.StatusURL()+"/api/v1/reload", http.NoBody)
	w.must(err)
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	_ = resp.Body.Close() // nothing of it is read
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("without the token: %s", resp.Status)
	}
}
