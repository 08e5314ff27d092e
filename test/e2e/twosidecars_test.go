package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// second starts another sidecar with lb0's settings, under another name, with an API of
// its own at the URL and further arguments.
func (w *world) second(args ...string) (p *lab.Process, url string) {
	w.Helper()
	text, err := os.ReadFile(w.lb.Settings())
	w.must(err)
	port, err := w.Port()
	w.must(err)
	other := strings.Replace(string(text), "name: lb0\n", "name: lb1\n", 1)
	if other = strings.Replace(other, fmt.Sprintf(`api: {address: "127.0.0.1:%d"}`, w.lb.StatusPort), fmt.Sprintf(`api: {address: "127.0.0.1:%d"}`, port), 1); strings.Contains(other, fmt.Sprint(w.lb.StatusPort)) {
		w.Fatalf("the second sidecar has the first one's port:\n%s", other)
	}
	w.must(os.WriteFile(w.Path("second.yaml"), []byte(other), 0o600))
	p, err = w.Start("second", programs.Sidecar, append([]string{"run", "--config", w.Path("second.yaml")}, args...)...)
	w.must(err)
	w.Cleanup(func() { _ = p.Kill() })
	return p, fmt.Sprintf("http://127.0.0.1:%d", port)
}

// Two sidecars beside one HAProxy reload against each other without end (issue
// 14, section 8).
func TestSecondSidecar_SameHAProxy_RefusesAndNamesHolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	p, _ := w.second()
	if err := p.Wait(15 * time.Second); err != nil && p.Running() {
		t.Fatalf("the second sidecar runs beside the first: %v", err)
	}
	if p.ExitCode() != 1 {
		t.Errorf("exit code %d, want 1", p.ExitCode())
	}
	for _, want := range []string{w.lb.Config(), fmt.Sprintf("pid %d", w.lb.Sidecar.PID()), `name "lb0"`, "since 20"} {
		if got := p.Tail(5); !strings.Contains(got, want) {
			t.Errorf("it says nothing of %q:\n%s", want, got)
		}
	}
	// A crash leaves a file and no lock.
	w.must(w.lb.Sidecar.Kill())
	p, _ = w.second()
	w.must(lab.Until(w.ctx, 15*time.Second, "the second sidecar follows Consul, once the first was killed", func() error {
		switch {
		case !p.Running():
			t.Fatalf("it has ended:\n%s", p.Tail(5))
		case !strings.Contains(p.Tail(100), "started"):
			return errors.New("it has not started")
		}
		return nil
	}))
}

// A new process that starts while the old one ends goes on with its file and its HAProxy.
func TestSecondSidecar_FirstStopsMeanwhile_GoesOnWithoutReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	worker := w.workerPID()
	p, url := w.second()
	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(lab.Until(w.ctx, 20*time.Second, "the second sidecar is ready", func() error {
		body, code, err := w.getWith(url+"/readyz", "")
		if err == nil && code != http.StatusOK {
			err = errors.New(body)
		}
		return err
	}))
	node, err := w.StartNode(w.ctx, w.consul, service, "later", "1.0")
	w.must(err)
	w.must(w.hasUp("api_nodes", node.Addr()))
	if got := w.workerPID(); got != worker {
		t.Errorf("HAProxy's worker is %d, was %d: it was reloaded:\n%s", got, worker, p.Tail(20))
	}
}

// A lock beside haproxy.cfg tells nothing to a sidecar that writes another file for the
// same HAProxy (issue 14, section 8).
func TestSecondSidecar_OtherFileOfSameHAProxy_RefusesAndNamesOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	worker, file := w.workerPID(), w.Path("other.cfg")
	host, err := os.Hostname()
	w.must(err)
	refused := func(args []string, wants ...string) {
		t.Helper()
		p, _ := w.second(append(args, "--haproxy-config", file)...)
		if err := p.Wait(15 * time.Second); p.Running() || p.ExitCode() != 2 {
			t.Fatalf("%q: exit code %d, running %v, %v, want 2:\n%s", args, p.ExitCode(), p.Running(), err, p.Tail(10))
		}
		for _, want := range append(wants, w.lb.Socket(), "belongs to another sidecar: name lb0, host "+host+", file "+w.lb.Config()) {
			if got := p.Tail(10); !strings.Contains(got, want) {
				t.Errorf("%q: it says nothing of %q:\n%s", args, want, got)
			}
		}
	}
	holder := fmt.Sprintf(`, which runs: pid %d, name "lb0", since 20`, w.lb.Sidecar.PID())
	refused(nil, holder)
	refused([]string{"--adopt"}, holder)
	if out, code := sidecar(t, nil, "check", "--config", w.Path("second.yaml"), "--haproxy-config", file); code != 1 || !strings.Contains(out, "belongs to another sidecar: name lb0") {
		t.Errorf("check: exit code %d, want 1, and who has HAProxy in\n%s", code, out)
	}
	if got := w.workerPID(); got != worker {
		t.Errorf("HAProxy's worker is %d, was %d: it was reloaded", got, worker)
	}

	// What was killed may be started again, so it takes an operator who says that it has
	// ended.
	w.must(w.lb.Sidecar.Kill())
	refused(nil, "with --adopt")
	p, _ := w.second("--adopt", "--haproxy-config", file)
	w.must(lab.Until(w.ctx, 15*time.Second, "the second sidecar acts", func() error {
		if !strings.Contains(p.Tail(100), "taking over another sidecar's HAProxy") || !strings.Contains(p.Tail(100), "reload needed") {
			return errors.New("it does not: " + p.Tail(5))
		}
		return nil
	}))
}

// HAProxy is started again with another sidecar's file: the one that it had changes
// nothing there, until it has its own again.
func TestSecondSidecar_TakesHAProxyDuringTheRun_FirstStopsActing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	file := w.Path("other.cfg")
	w.must(w.lb.HAProxy.Stop(10 * time.Second))
	p, _ := w.second("--haproxy-config", file)
	run := func(file string) *lab.Process {
		w.must(lab.Until(w.ctx, 15*time.Second, file+" is there", func() error {
			_, err := os.Stat(file)
			return err
		}))
		haproxy, err := w.Start("second-haproxy", programs.HAProxy, "-W", "-S", w.lb.Master(), "-f", file)
		w.must(err)
		w.Cleanup(func() { _ = haproxy.Kill() })
		return haproxy
	}
	haproxy := run(file)
	w.must(lab.Until(w.ctx, 30*time.Second, "the first sidecar is not ready, and says who has HAProxy", func() error {
		body, code, err := w.getWith(w.lb.StatusURL()+"/readyz", "")
		for _, want := range []string{"belongs to another sidecar: name lb1, ", "file " + file, fmt.Sprintf("which runs: pid %d", p.PID())} {
			if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(body, want)) {
				err = fmt.Errorf("%d %s", code, body)
			}
		}
		return err
	}))
	steps, worker := w.steps(""), w.workerPID()
	node, err := w.StartNode(w.ctx, w.consul, service, "later", "1.0")
	w.must(err)
	w.must(w.hasUp("api_nodes", node.Addr()))
	if got := w.steps(""); got != steps {
		t.Errorf("the first sidecar took %v steps, had taken %v: it acts on the other's HAProxy", got, steps)
	}
	if n := strings.Count(w.lb.Sidecar.Tail(100000), "belongs to another sidecar"); n != 1 {
		t.Errorf("the first sidecar has logged it %d times, want once", n)
	}
	if got := w.workerPID(); got != worker {
		t.Errorf("HAProxy's worker is %d, was %d: it was reloaded", got, worker)
	}
	w.must(haproxy.Stop(10 * time.Second))
	w.must(p.Stop(10 * time.Second))
	run(w.lb.Config())
	w.must(w.lb.Ready(w.ctx, 30*time.Second))
}

// Two sidecars of one name share an ID in Consul. The stop of one took the
// registration of the other, and nodes left without asking it (issue 14,
// section 8).
func TestSidecarStop_AnotherOfItsName_KeepsItsRegistration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	other, err := w.NewBalancer("other", w.consul, lab.Service{Name: service, Backend: "api_nodes"})
	w.must(err)
	other.SetEnviron("POINTSMAN_NAME=lb0")
	w.must(other.Start(w.ctx))
	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(lab.Until(w.ctx, 5*time.Second, "the registration is that of the sidecar that runs", func() error {
		return w.registeredAt(other.StatusPort)
	}))
}

// registeredAt reports whether lb0's sidecar is registered at the port, running.
func (w *world) registeredAt(port int) error {
	all, _, err := w.consul.Client.Health().Service("pointsman-sidecar", "", false, nil)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Service.ID == "pointsman-sidecar-lb0" && e.Service.Port == port && e.Service.Meta["pointsman-stopped"] == "" {
			return nil
		}
	}
	var found []string
	for _, e := range all {
		found = append(found, fmt.Sprintf("%s at port %d, meta %v", e.Service.ID, e.Service.Port, e.Service.Meta))
	}
	return fmt.Errorf("it is not at port %d: Consul has %q", port, found)
}

// A node that leaves asks what is registered as its load balancers' sidecars.
// What says "drained" there makes it leave early (issue 14, section 4).
func TestSidecarRegistration_ChangedByAnother_Restored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.must(lab.Until(w.ctx, 5*time.Second, "the sidecar is registered", func() error { return w.registeredAt(w.lb.StatusPort) }))
	said := map[string]string{"pointsman-lb": "lb0", "pointsman-routes": service}
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"at the agent", func() error {
			return w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
				ID: "pointsman-sidecar-lb0", Name: "pointsman-sidecar", Address: "127.0.0.1", Port: 9, Meta: said,
			})
		}},
		{"in the catalog", func() error {
			all, _, err := w.consul.Client.Health().Service("pointsman-sidecar", "", false, nil)
			if err != nil || len(all) == 0 {
				return err
			}
			_, err = w.consul.Client.Catalog().Register(&api.CatalogRegistration{
				Node: all[0].Node.Node, Address: all[0].Node.Address,
				Service: &api.AgentService{ID: "pointsman-sidecar-lb0", Service: "pointsman-sidecar", Address: "127.0.0.1", Port: 9, Meta: said},
			}, nil)
			return err
		}},
	} {
		// Consul's agent may restore the catalog before the sidecar looks.
		w.must(lab.Until(w.ctx, 20*time.Second, "the log says that it was changed "+c.name, func() error {
			w.must(c.change())
			if got := w.lb.Sidecar.Tail(100); !strings.Contains(got, "registration was changed by another, restored") || !strings.Contains(got, c.name) {
				return errors.New("it does not: " + got)
			}
			return nil
		}))
		w.must(lab.Until(w.ctx, 8*time.Second, "it is restored "+c.name, func() error { return w.registeredAt(w.lb.StatusPort) }))
	}
}
