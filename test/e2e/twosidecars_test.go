package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// second starts another sidecar with lb0's settings, under another name and with
// an API of its own.
func (w *world) second() *lab.Process {
	w.Helper()
	text, err := os.ReadFile(w.lb.Settings())
	w.must(err)
	port, err := w.Port()
	w.must(err)
	other := strings.Replace(string(text), "name: lb0\n", "name: lb1\n", 1)
	other = strings.Replace(other, fmt.Sprintf(`status: {address: "127.0.0.1:%d"}`, w.lb.StatusPort), fmt.Sprintf(`status: {address: "127.0.0.1:%d"}`, port), 1)
	w.must(os.WriteFile(w.Path("second.yaml"), []byte(other), 0o600))
	p, err := w.Start("second", programs.Sidecar, "run", "--config", w.Path("second.yaml"))
	w.must(err)
	w.Cleanup(func() { _ = p.Kill() })
	return p
}

// Two sidecars beside one HAProxy reload against each other without end (issue
// 14, section 8).
func TestSecondSidecar_SameHAProxy_RefusesAndNamesHolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	p := w.second()
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
	p = w.second()
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
