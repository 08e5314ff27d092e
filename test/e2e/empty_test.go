package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// A service without an instance may have a wrong name: that is said once, and by check.
// A proxy of a mesh under the service's own name is none of its instances (issue 13,
// sections 3 and 4).
func TestService_NoInstance_SaidOnceAndByCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.must(w.lb.SetServices(append(w.lb.Services(), lab.Service{Name: "nothing"}, lab.Service{Name: "mesh"})...))
	w.must(w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Kind: api.ServiceKindConnectProxy, ID: "mesh-proxy", Name: "mesh", Address: "127.0.0.1", Port: w.nodes[0].Port,
		Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "api"},
	}))
	w.must(w.lb.Reread())
	w.reloaded(20*time.Second, 1)
	const words = "service has no instance"
	w.logged("[WARN]", words, "service=nothing")
	w.logged("[WARN]", "invalid instance ignored", "mesh-proxy", "connect-proxy", "is not an instance")
	w.must(w.lb.Reread()) // the same settings, planned again
	more := w.startNodes("1.0", "new", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(append(w.nodes, more...)...)...))
	if got := strings.Count(w.lb.Sidecar.Tail(1000), words+": lb=lb0 service=nothing"); got != 1 {
		t.Errorf("it is said %d times, want once:\n%s", got, w.lb.Sidecar.Tail(100))
	}
	servers, err := w.lb.Servers(w.ctx, "mesh")
	w.must(err)
	for _, s := range servers {
		if s.Addr == w.nodes[0].Addr() {
			t.Errorf("the proxy is a server: %+v", s)
		}
	}
	out, code := sidecar(t, nil, "check", "--config", w.lb.Settings())
	for _, want := range []string{"nothing: Consul lists no instance", "mesh: no instance can be used, 1 are left out"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("check: exit code %d, want 0 and %q:\n%s", code, want, out)
		}
	}
}

// On 2.6 an instance takes a slot by its address. One that comes while HAProxy reloads
// does so in the worker that ends: the new one has the slots of the file.
func TestReload_InstanceComesMeanwhile_HasAServerInTheNewWorker(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	var err error
	w.lb, err = w.NewBalancer("lb0", w.consul, lab.Service{Name: service, Backend: "api_nodes"})
	w.must(err)
	began, release := w.lb.Path("began"), w.lb.Path("release")
	w.must(w.lb.SetHAProxy(fmt.Sprintf("  reload_command: [/bin/sh, -c, %q]\n",
		fmt.Sprintf("touch %s; until [ -e %s ]; do sleep 0.05; done; kill -USR2 $(cat %s)", began, release, w.lb.Path("pid")))))
	w.must(w.lb.Start(w.ctx))
	w.must(os.WriteFile(w.lb.Path("pid"), []byte(strconv.Itoa(w.lb.HAProxy.PID())), 0o644))
	w.nodes = w.startNodes("1.0", "old", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	clients := w.load()

	w.must(w.lb.SetServices(append(w.lb.Services(), lab.Service{Name: "other"})...))
	w.must(w.lb.Reread())
	w.must(lab.Until(w.ctx, 20*time.Second, "the reload is under way", func() error { _, err := os.Stat(began); return err }))
	pid := w.workerPID()
	w.nodes = append(w.nodes, w.startNodes("1.0", "new", 1)...)
	w.must(lab.Until(w.ctx, 20*time.Second, "the worker that ends has a server for the instance", func() error {
		servers, err := w.lb.Servers(w.ctx, "api_nodes")
		for _, s := range servers {
			if s.Addr == w.nodes[1].Addr() {
				return err
			}
		}
		return errors.Join(err, fmt.Errorf("%+v", servers))
	}))
	if got := w.workerPID(); got != pid {
		t.Fatalf("HAProxy's worker is %d, was %d: it was reloaded already", got, pid)
	}
	w.must(os.WriteFile(release, nil, 0o644))
	w.reloaded(20*time.Second, 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	if got := w.workerPID(); got == pid {
		t.Errorf("HAProxy's worker is %d as before: it was not reloaded", got)
	}
	if got := w.drift(); got != 0 {
		t.Errorf("%v corrections of drift, want none", got)
	}
	w.mustLoseNothing(clients)
}
