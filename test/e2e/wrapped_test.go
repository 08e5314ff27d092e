package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// Programs that know nothing of Consul, nor of leaving: under `registrator run`
// their second version takes the place of the first, and no request is lost.
func TestNginxUnderTheWrapperIsDeployedWithoutALoss(t *testing.T) {
	t.Parallel()
	nginx, err := lab.Nginx()
	if err != nil {
		t.Fatal(err)
	}
	w := bareWorld(t)
	deployWrapped(w, []string{"--signal", "QUIT"}, func(name string) func(port int) []string {
		return func(port int) []string {
			command, err := lab.WriteNginx(nginx, w.Path(name), name, port)
			w.must(err)
			return command
		}
	})
}

// Python's server ends at once on SIGTERM, in the middle of requests.
func TestPythonsServerUnderTheWrapperIsDeployedWithoutALoss(t *testing.T) {
	t.Parallel()
	python, err := lab.Python()
	if err != nil {
		t.Fatal(err)
	}
	w := bareWorld(t)
	deployWrapped(w, nil, func(name string) func(port int) []string {
		return func(port int) []string {
			dir := w.Path(name)
			w.must(os.MkdirAll(dir, 0o755))
			for file, content := range map[string]string{"index.html": name, "healthz": "well"} {
				w.must(os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644))
			}
			return []string{python, "-u", "-m", "http.server", fmt.Sprint(port), "--bind", "127.0.0.1", "--directory", dir}
		}
	})
}

// Issue 13: three programs under one service ID, as of containers with a fixed
// host name. The first to leave took the registration of the one that served.
func TestOneServiceID_FirstOfThreeLeaves_NoRequestFails(t *testing.T) {
	t.Parallel()
	nginx, err := lab.Nginx()
	if err != nil {
		t.Fatal(err)
	}
	w := bareWorld(t)
	w.newBalancer(lab.Service{Name: "web"})
	w.must(w.lb.Start(w.ctx))
	var all []*lab.Wrapped
	var load *lab.Hammering
	for i := range 3 {
		name := fmt.Sprintf("web-%d", i)
		p, err := w.StartWrapped(w.consul, "web", name, []string{"--signal", "QUIT", "--id", "web-fixed"}, func(port int) []string {
			command, err := lab.WriteNginx(nginx, w.Path(name+".d"), name, port)
			w.must(err)
			return command
		})
		w.must(err)
		all = append(all, p)
		if load == nil {
			w.must(w.lb.Routes(w.ctx, 20*time.Second, "web", "web-fixed"))
			load = lab.Hammer(w.ctx, w.lb.URL("web"), 8)
		}
		w.must(lab.Until(w.ctx, 20*time.Second, name+" answers", answered(load, []string{name})))
	}
	for _, p := range all[:2] {
		w.must(p.Terminate())
		w.must(p.Wait(30 * time.Second))
	}
	entries, _, err := w.consul.Client.Health().Service("web", "", true, nil)
	w.must(err)
	if len(entries) != 1 || entries[0].Service.Port != all[2].Port || entries[0].Service.Meta["pointsman-drain"] != "" {
		t.Errorf("registered: got %d, want the last one's registration, not leaving", len(entries))
	}
	requests, failures := load.Stop()
	for _, f := range failures[:min(len(failures), 5)] {
		t.Errorf("a request failed: %v", f)
	}
	t.Logf("%d requests, %d failed", requests, len(failures))
}

// deployWrapped starts three of them, and three more in their place, under load.
func deployWrapped(w *world, flags []string, command func(name string) func(port int) []string) {
	w.Helper()
	w.newBalancer(lab.Service{Name: "web"})
	w.must(w.lb.Start(w.ctx))
	start := func(version string) (started []*lab.Wrapped, names []string) {
		for i := range 3 {
			name := fmt.Sprintf("web-%s-%d", version, i)
			p, err := w.StartWrapped(w.consul, "web", name, append([]string{"--version", version}, flags...), command(name))
			w.must(err)
			started, names = append(started, p), append(names, name)
		}
		return started, names
	}
	old, names := start("1.0")
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "web", names...))
	pid := w.workerPID()
	load := lab.Hammer(w.ctx, w.lb.URL("web"), 8)
	w.must(lab.Until(w.ctx, 10*time.Second, "the old ones answer", answered(load, names)))

	_, fresh := start("1.1")
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "web", append(names, fresh...)...))
	for _, p := range old {
		w.must(p.Terminate())
	}
	for _, p := range old {
		if err := p.Wait(30 * time.Second); err != nil && p.ExitCode() != 143 { // Python's, by SIGTERM
			w.Error(err)
		}
	}
	w.must(w.lb.Routes(w.ctx, 10*time.Second, "web", fresh...))
	w.must(lab.Until(w.ctx, 10*time.Second, "the new ones answer", answered(load, fresh)))
	requests, failures := load.Stop()
	for _, f := range failures {
		w.Errorf("a request failed: %v", f)
	}
	w.Logf("%d requests, %d failed", requests, len(failures))
	if got := w.workerPID(); got != pid {
		w.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}
}

func answered(load *lab.Hammering, names []string) func() error {
	return func() error {
		for _, name := range names {
			if load.Answered(name) == 0 {
				return fmt.Errorf("%s has not answered", name)
			}
		}
		return nil
	}
}
