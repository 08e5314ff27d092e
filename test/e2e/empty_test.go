package e2e

import (
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
