package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// An operator's HAProxy runs with a backend of a service's name: init writes settings
// with which check passes and the service is routed.
func TestInit_RunningHAProxy_WritesSettingsThatCheckPasses(t *testing.T) {
	t.Parallel()
	w := worldOf(t)
	w.nodes = w.startNodes("1.0", "n", 2)
	_, err := w.StartNode(w.ctx, w.consul, "other", "o0", "1.0")
	w.must(err)
	w.must(lab.Until(w.ctx, 20*time.Second, "Consul has asked the instances", func() error {
		checks, err := w.consul.Client.Agent().Checks()
		if err != nil {
			return err
		}
		for _, c := range checks {
			if c.ServiceName == service && strings.HasPrefix(c.Output, "HTTP GET ") {
				return nil
			}
		}
		return fmt.Errorf("the checks: %+v", checks)
	}))
	port, err := w.Port()
	w.must(err)
	base, file := w.lb.Path("haproxy.cfg"), w.lb.Path("pointsman.cfg")
	theirs := func(to string) []byte {
		return fmt.Appendf(nil, `global
    stats socket %s mode 660 level admin expose-fd listeners
    hard-stop-after 10s
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend site
    bind 127.0.0.1:%d
    option idle-close-on-response
    default_backend %s
backend api
    server old 127.0.0.1:1
`, w.lb.Socket(), port, to)
	}
	w.must(os.WriteFile(base, theirs("api"), 0o644))
	w.must(os.Remove(w.lb.Settings()))
	flags := []string{
		"--output", w.lb.Settings(), "--consul-address", w.consul.Address(), "--haproxy-socket", w.lb.Socket(), "--haproxy-master-socket", w.lb.Master(),
		"--haproxy-config", file, "--api-address", strings.TrimPrefix(w.lb.StatusURL(), "http://"),
	}
	environ := []string{"POINTSMAN_HAPROXY_BASE_CONFIG=" + base, "POINTSMAN_HAPROXY_CHECK_COMMAND=[" + programs.HAProxy + ", -c, -f, \"{file}\"]"}
	initialise := func(code int, want string, args ...string) {
		t.Helper()
		out, got := sidecar(t, environ, append(append([]string{"init"}, flags...), args...)...)
		if got != code || !strings.Contains(out, want) {
			t.Fatalf("init %v: exit code %d, want %d and %q:\n%s", args, got, code, want, out)
		}
	}
	initialise(1, "read HAProxy at "+w.lb.Socket())
	w.lb.HAProxy, err = w.Start("haproxy-alone", programs.HAProxy, "-W", "-S", w.lb.Master(), "-f", base)
	w.must(err)
	w.must(lab.Until(w.ctx, 10*time.Second, "HAProxy answers", func() error {
		_, err := w.lb.WorkerPID(w.ctx)
		return err
	}))
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"consul":[]}`)) // the client sees what is missing
	}))
	defer empty.Close()
	initialise(1, "there is none; register an instance first", "--consul-address", strings.TrimPrefix(empty.URL, "http://"))
	initialise(0, "written: "+w.lb.Settings())
	initialise(1, "exists already")
	text := read(t, w.lb.Settings())
	for _, want := range []string{
		"  base_config: \"" + base + "\"\n", "  - name: \"api\"\n", "    backend: \"consul.api\"\n", "    check: {path: \"/healthz\"}\n", "# Consul also lists: other\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the file has no %q:\n%s", want, text)
		}
	}

	// As the file says: traffic to the new backend, both files, check, run.
	w.must(os.WriteFile(base, theirs("consul.api"), 0o644))
	if out, code := sidecar(t, nil, "render", "--write", "--config", w.lb.Settings()); code != 0 {
		t.Fatalf("render --write: exit code %d:\n%s", code, out)
	}
	w.must(w.lb.HAProxy.Stop(10 * time.Second))
	w.lb.HAProxy, err = w.Start("haproxy-both", programs.HAProxy, "-W", "-S", w.lb.Master(), "-f", base, "-f", file)
	w.must(err)
	w.must(lab.Until(w.ctx, 10*time.Second, "check passes", func() error {
		if out, code := sidecar(t, nil, "check", "--config", w.lb.Settings()); code != 0 {
			return fmt.Errorf("exit code %d:\n%s", code, out)
		}
		return nil
	}))
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	w.must(w.Get(w.ctx, fmt.Sprintf("http://127.0.0.1:%d/", port), 5*time.Second))

	// Services that are named need no backend.
	other := w.lb.Path("etc/other.yaml") // in a directory that is not there yet
	initialise(0, "written: "+other, "--output", other, "other")
	if text := read(t, other); !strings.Contains(text, "  - name: \"other\"\n") || strings.Contains(text, "name: \"api\"") {
		t.Errorf("init of one service has written:\n%s", text)
	}
}
