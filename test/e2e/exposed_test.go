package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// released asks for a release of the guard of the service "other", and reports
// whether the sidecar did it. The client is anybody's: it has no token.
func (w *world) released(url string) bool {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodPost, url+"api/v1/guard/other/release", http.NoBody)
	w.must(err)
	req.Host = "localhost"
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	w.must(err)
	return resp.StatusCode == http.StatusOK && strings.Contains(string(body), `"released"`)
}

// A tenant who may register instances of one service must not reach the
// sidecar, HAProxy's own pages or the machine's neighbours through HAProxy
// (issue 14, point 1). Each way by itself: actions need an authority, and the
// addresses are refused.
func TestLoadBalancer_InstancesAtItsOwnListeners_AreRefused(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	var err error
	w.lb, err = w.NewBalancer("lb0", w.consul,
		lab.Service{Name: service, Extra: "    check: {enabled: false}"}, lab.Service{Name: "other", BackendOnly: true})
	w.must(err)
	w.must(w.lb.Start(w.ctx))
	w.nodes = w.startNodes("1.0", "old", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, "old0"))

	if w.released(w.lb.StatusURL() + "/") {
		t.Error("a request over loopback without a token released the guard")
	}
	statusPort, front := w.lb.StatusPort, w.lb.Services()[0].Port
	attacks := map[string]api.CatalogRegistration{}
	for name, at := range map[string]struct {
		address string
		port    int
	}{
		"the API":                {"127.0.0.1", statusPort},
		"the API, IPv6-mapped":   {"::ffff:127.0.0.1", statusPort},
		"the statistics page":    {"127.0.0.1", w.lb.StatsPort},
		"the service's frontend": {"127.0.0.1", front},
		"a metadata service":     {"169.254.169.254", 80},
		"link-local IPv6":        {"fe80::1", 80},
		"metadata by NAT64":      {"64:ff9b::a9fe:a9fe", 80},
	} {
		attacks[name] = api.CatalogRegistration{
			Node: "tenant", Address: "192.0.2.1",
			Service: &api.AgentService{ID: strings.ReplaceAll(name, " ", "-"), Service: service, Address: at.address, Port: at.port},
		}
	}
	attacks["another machine's loopback"] = api.CatalogRegistration{
		Node: "tenant-of-loopback", Address: "127.0.0.1",
		Service: &api.AgentService{ID: "loopback", Service: service, Port: w.nodes[0].Port},
	}
	for name, a := range attacks {
		_, err := w.consul.Client.Catalog().Register(&a, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	// The tenant's node may be the sidecar's own, too.
	w.must(w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: "by-agent", Name: service, Address: "127.0.0.1", Port: statusPort}))
	// What comes after all of them in Consul shows that all were read.
	w.nodes = append(w.nodes, w.startNodes("1.0", "new", 1)...)
	w.must(lab.Until(w.ctx, 20*time.Second, "the new node is up", func() error {
		if !w.isUp("new0") {
			return fmt.Errorf("%+v", w.state().Instances(service))
		}
		return nil
	}))
	w.must(w.lb.Routes(w.ctx, 5*time.Second, service, "old0", "new0"))
	for range 3 * (len(attacks) + 3) {
		if w.released(w.lb.URL(service)) {
			t.Fatal("the guard was released by a request through HAProxy")
		}
	}
	for _, a := range attacks {
		w.logged("invalid instance ignored", a.Service.ID)
	}
	w.logged("invalid instance ignored", "by-agent", "listens")
}
