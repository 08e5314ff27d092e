package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
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
	w := worldOf(t,
		lab.Service{Name: service, Extra: "    check: {enabled: false}"}, lab.Service{Name: "other", BackendOnly: true})
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

// A page in a browser must not read the state by a name that resolves to this
// machine, and only who may open the socket acts (issue 14, point 1).
func TestAPI_HostOfAnother_RefusedAndSocketActs(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: "other", BackendOnly: true})
	w.lb.SetEnviron("POINTSMAN_API_HOSTS=lb.example")
	w.must(w.lb.Start(w.ctx))
	for host, want := range map[string]int{
		"": http.StatusOK, "localhost": http.StatusOK, "lb0": http.StatusOK, "lb.example": http.StatusOK,
		"evil.example": http.StatusForbidden, "localhost.evil.example": http.StatusForbidden,
	} {
		req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, w.lb.StatusURL()+"/api/v1/state", http.NoBody)
		w.must(err)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		w.must(err)
		_ = resp.Body.Close()
		if resp.StatusCode != want || resp.Close != (want == http.StatusForbidden) {
			t.Errorf("Host %q: got status %d, closed %v, want %d, and closed only after 403", host, resp.StatusCode, resp.Close, want)
		}
	}

	socket := w.lb.Config() + ".api.sock"
	info, err := os.Stat(socket)
	w.must(err)
	if info.Mode().Type() != os.ModeSocket || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %s, want a socket of its owner", socket, info.Mode())
	}
	out, code := sidecar(t, []string{"POINTSMAN_CONFIG=" + w.lb.Settings()}, "guard", "release", "other")
	if code != 0 {
		t.Errorf("pointsman guard release: exit code %d: %s", code, out)
	}
	if w.released(w.lb.StatusURL() + "/") {
		t.Error("a request over loopback without a token released the guard")
	}
}

// Each service may have networks of its own (issue 14, point 1).
func TestAddresses_DeniedAndNotAllowed_GetNoServer(t *testing.T) {
	t.Parallel()
	w := worldOf(t,
		lab.Service{Name: service, Backend: "api_nodes"},
		lab.Service{Name: "billing", Backend: "billing_nodes", Extra: "    addresses: {allow: [127.7.0.0/16], deny: [127.7.9.0/24]}"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8], deny: [127.6.0.0/16]}"))
	w.must(w.lb.Start(w.ctx))
	for _, name := range []string{service, "billing"} {
		// The last is for documentation (RFC 5737): it gets no server, so nothing is sent there.
		for i, address := range []string{"127.5.0.1", "127.6.0.1", "127.7.0.1", "127.7.9.1", "198.51.100.1"} {
			_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
				Node: "tenant", Address: "127.0.0.1", Service: &api.AgentService{ID: fmt.Sprintf("%s-%d", name, i), Service: name, Address: address, Port: 9},
			}, nil)
			w.must(err)
		}
	}
	for backend, want := range map[string][]string{
		"api_nodes": {"127.5.0.1:9", "127.7.0.1:9", "127.7.9.1:9"}, "billing_nodes": {"127.7.0.1:9"},
	} {
		w.must(lab.Until(w.ctx, 20*time.Second, backend+" has the servers that may be", func() error {
			servers, err := w.lb.Servers(w.ctx, backend)
			var got []string
			for _, s := range servers {
				if s.Addr != "127.0.0.1:9" { // a free slot
					got = append(got, s.Addr)
				}
			}
			if slices.Sort(got); err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("got %q, want %q", got, want)
			}
			return err
		}))
	}
	w.logged("invalid instance ignored", "api-1", "denied")
	w.logged("invalid instance ignored", "billing-0")
	w.logged("invalid instance ignored", "billing-3", "denied")
	w.logged("invalid instance ignored", "api-4", "addresses.allow")
}
