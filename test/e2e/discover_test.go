package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/hostile"
	"github.com/pointsman/pointsman/test/lab"
)

// discoverSettings has a frontend that takes routes from Consul.
const discoverSettings = `discovery: {grace: 2s}
frontends:
  - name: web
    bind: "127.0.0.1:%d"
    discover:
      tag_prefix: pointsman-route=
      meta: pointsman-route
      fabio: true
      allow:
        - {host: "*.example.com", services: "*"}
        - {host: shop.example.com, services: ["shop*", "*-shop"]}
    routes:
      - {host: own.example.com, service: own}
`

func newDiscoveringWorld(t *testing.T) *routedWorld {
	t.Helper()
	w := newRoutedWorld(t, "own")
	w.must(w.lb.SetExtra(fmt.Sprintf(discoverSettings, w.port)))
	w.must(w.lb.Start(w.ctx))
	w.serve("own", "own0")
	w.until("own.example.com", "/", "own0")
	return w
}

// serve starts an instance that answers with its ID, and registers it with tags.
func (w *routedWorld) serve(service, id string, tags ...string) *instance {
	w.Helper()
	i := &instance{w: w, service: service, id: id, at: w.answer(func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(map[string]string{"instance": id}) // the client tells
	})}
	i.register(tags...)
	return i
}

// answer starts a server that ends with the test, and gives its address.
func (w *routedWorld) answer(handler http.HandlerFunc) *net.TCPAddr {
	w.Helper()
	listener, err := (&net.ListenConfig{}).Listen(w.ctx, "tcp", "127.0.0.1:0")
	w.must(err)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: handler}
	go func() { _ = server.Serve(listener) }()
	w.Cleanup(func() { _ = server.Close() })
	return listener.Addr().(*net.TCPAddr)
}

// instance is one instance of a service, as Consul has it.
type instance struct {
	w           *routedWorld
	service, id string
	at          *net.TCPAddr
}

func (i *instance) register(tags ...string) {
	i.w.Helper()
	i.registerWith(nil, tags...)
}

func (i *instance) registerWith(meta map[string]string, tags ...string) {
	i.w.Helper()
	i.w.registerAt(i.at, i.service, i.id, meta, tags...)
}

func (i *instance) deregister() {
	i.w.Helper()
	i.w.must(i.w.consul.Client.Agent().ServiceDeregister(i.id))
}

// problems waits until the state tells of a refused claim with some words.
func (w *routedWorld) problem(words ...string) {
	w.Helper()
	w.must(lab.Until(w.ctx, 10*time.Second, fmt.Sprintf("the state tells of %q", words), func() error {
		body, err := w.lb.StateJSON(w.ctx)
		if err != nil {
			return err
		}
		var state struct {
			Problems []json.RawMessage `json:"route_problems"`
		}
		if err := json.Unmarshal(body, &state); err != nil {
			return err
		}
	next:
		for _, p := range state.Problems {
			for _, word := range words {
				if !strings.Contains(string(p), word) {
					continue next
				}
			}
			return nil
		}
		return fmt.Errorf("it has %s", state.Problems)
	}))
}

func (w *routedWorld) reloads() int { return w.state().Reloads.Succeeded }

// reloadsFor is how many reloads bring a backend, or take it: none since HAProxy 3.4.
func (w *routedWorld) reloadsFor() int {
	out, err := w.lb.Runtime(w.ctx, "help")
	w.must(err)
	if strings.Contains(out, "add backend ") {
		return 0
	}
	return 1
}

// A service that is registered with a tag is served, by one reload before HAProxy 3.4,
// while requests to others are under way, and it goes with its last instance.
func TestDiscover_ServiceComesAndGoesUnderLoad_NoFailedRequest(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	load := w.hammer(map[[2]string][]string{{"own.example.com", "/"}: {"own0"}})
	before, each := w.reloads(), w.reloadsFor()
	cart := w.serve("shop-cart", "cart0", "pointsman-route=shop.example.com/cart strip")
	w.until("shop.example.com", "/cart/x", "cart0")
	w.must(lab.Until(w.ctx, 10*time.Second, fmt.Sprintf("there was %d reload", each), func() error {
		if got := w.reloads() - before; got != each {
			return fmt.Errorf("%d", got)
		}
		return nil
	}))
	// From the first answer on, no request to it fails.
	cartLoad := w.hammer(map[[2]string][]string{{"shop.example.com", "/cart"}: {"cart0", "cart1"}})
	w.until("shop.example.com", "/", "") // another path is not its
	second := w.serve("shop-cart", "cart1", "pointsman-route=shop.example.com/cart strip")
	w.until("shop.example.com", "/cart", "cart1")
	cartLoad.stop(t)
	cart.deregister()
	second.deregister()
	w.until("shop.example.com", "/cart", "")
	w.must(lab.Until(w.ctx, 20*time.Second, "its backend is gone, by as many reloads more", func() error {
		out, err := w.lb.Runtime(w.ctx, "show backend")
		if err == nil && (strings.Contains(out, "shop-cart") || strings.Contains(w.readConfig(), "backend shop-cart ") || w.reloads() != before+2*each) {
			err = fmt.Errorf("%d reloads, HAProxy has\n%s", w.reloads()-before, out)
		}
		return err
	}))
	load.stop(t)
}

// In a rolling deployment old and new instances carry other tags. What one of them claims
// is served all the time.
func TestDiscover_TagsChangeInRollingDeployment_ClaimedRouteStays(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	const old, both, other = "pointsman-route=shop.example.com/a", "urlprefix-shop.example.com/both", "pointsman-route=shop.example.com/b"
	first := w.serve("shop", "shop0", old, both)
	w.until("shop.example.com", "/a", "shop0")
	second := w.serve("shop", "shop1", old, both)
	w.until("shop.example.com", "/a", "shop1")
	reloads := w.reloads()
	instances := []string{"shop0", "shop1"}
	load := w.hammer(map[[2]string][]string{{"shop.example.com", "/both"}: instances})
	loadOld := w.hammer(map[[2]string][]string{{"shop.example.com", "/a"}: instances})
	first.register(other, both)
	w.until("shop.example.com", "/b", "shop0")
	loadNew := w.hammer(map[[2]string][]string{{"shop.example.com", "/b"}: instances})
	// The old route is claimed by the second instance only, for longer than the grace time:
	// another one comes and goes meanwhile.
	clock := w.serve("clock", "clock0", "pointsman-route=clock.example.com")
	w.until("clock.example.com", "/", "clock0")
	clock.deregister()
	w.until("clock.example.com", "/", "")
	loadOld.stop(t)
	reloads += 2 // of the other service, which has its backend for the grace time again
	second.register(other, both)
	w.until("shop.example.com", "/a", "") // after the grace time
	w.until("shop.example.com", "/b", "shop1")
	loadNew.stop(t)
	load.stop(t)
	if got := w.reloads() - reloads; got > 0 {
		t.Errorf("%d reloads for other routes of a service that is there, want 0", got)
	}
}

// Two services claim one route. The first one keeps it while it claims it, also after a
// restart of the sidecar and of HAProxy; then the other one gets it.
func TestDiscover_TwoServicesClaimOneRoute_OwnerStaysAndProblemIsShown(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	const claim = "pointsman-route=a.example.com"
	z := w.serve("z", "z0", "pointsman-route=z.example.com")
	w.until("z.example.com", "/", "z0")
	w.serve("b", "b0", claim)
	w.until("a.example.com", "/", "b0")
	z.register("pointsman-route=z.example.com", claim, "pointsman-route=own.example.com", "pointsman-route=shop.example.com") // registered before b
	w.problem(`"service":"z"`, `"owner":"b"`, "a.example.com/")
	w.problem(`"service":"z"`, `"owner":"settings"`, "own.example.com/")
	w.problem(`"service":"z"`, "allow", "shop.example.com/")
	w.until("own.example.com", "/", "own0")
	pid, reloads := w.workerPID(), w.reloads()

	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.problem(`"service":"z"`, `"owner":"b"`)
	w.until("a.example.com", "/", "b0")
	if got := w.workerPID(); got != pid || w.reloads() != 0 {
		t.Errorf("after a restart of the sidecar worker %d became %d, with %d reloads (before: %d)", pid, got, w.reloads(), reloads)
	}
	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(w.lb.HAProxy.Stop(10 * time.Second))
	w.must(w.lb.StartHAProxy(w.ctx))
	w.until("a.example.com", "/", "b0") // from the files alone
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.problem(`"service":"z"`, `"owner":"b"`)
	w.until("a.example.com", "/", "b0")

	out, err := w.pointsman(w.ctx, "check")
	w.must(err)
	if !strings.Contains(out, "service z claims a.example.com/ of frontend web: another service has this route (b)") {
		t.Errorf("check says\n%s", out)
	}
	out, err = w.pointsman(w.ctx, "explain", "route", "a.example.com/x")
	w.must(err)
	for _, want := range []string{"tag", "b, 1 of 1 servers take traffic", "service z claims"} {
		if !strings.Contains(out, want) {
			t.Errorf("explain route lacks %q:\n%s", want, out)
		}
	}
	w.must(w.consul.Client.Agent().ServiceDeregister("b0"))
	w.until("a.example.com", "/", "z0")
}

// pointsman runs a command of the program with the settings of the load balancer.
func (w *routedWorld) pointsman(ctx context.Context, args ...string) (string, error) {
	w.Helper()
	cmd := exec.CommandContext(ctx, programs.Sidecar, append(args, "--config", w.lb.Settings())...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

// claimsAreJudged waits until each service has a route, or a problem that names it.
func (w *routedWorld) claimsAreJudged(services []string) {
	w.Helper()
	w.must(lab.Until(w.ctx, 60*time.Second, "each claim is a route or a problem", func() error {
		body, err := w.lb.StateJSON(w.ctx)
		if err != nil {
			return err
		}
		var state struct {
			Frontends []struct {
				Routes []struct {
					Backend string `json:"backend"`
				} `json:"routes"`
			} `json:"frontends"`
			Problems []struct {
				Service string `json:"service"`
			} `json:"route_problems"`
		}
		if err := json.Unmarshal(body, &state); err != nil {
			return err
		}
		has := map[string]bool{}
		for _, p := range state.Problems {
			has[p.Service] = true
			if name, err := strconv.Unquote(p.Service); err == nil {
				has[name] = true
			}
		}
		for _, r := range state.Frontends[0].Routes {
			has[r.Backend] = true
		}
		missing := slices.DeleteFunc(slices.Clone(services), func(s string) bool { return has[s] })
		if len(missing) > 0 {
			return fmt.Errorf("%d of %d are not: %.500q", len(missing), len(services), missing)
		}
		return nil
	}))
}

// The third of three levels: see package hostile. Claims of an attacker are routes of its
// own, or nothing: HAProxy takes the file, and no request to the others fails.
func TestDiscover_HostileClaims_OthersAreServed(t *testing.T) {
	t.Parallel()
	w := newDiscoveringWorld(t)
	w.serve(hostile.Victim, "victim0", hostile.TagPrefix+hostile.VictimHost)
	w.until(hostile.VictimHost, "/", "victim0")
	load := w.hammer(map[[2]string][]string{
		{"own.example.com", "/"}:                          {"own0"},
		{hostile.VictimHost, "/"}:                         {"victim0"},
		{hostile.VictimHost, "/" + hostile.Payload + "/"}: {"victim0"},
	})
	refused, registered := 0, []string{}
	register := func(claims ...hostile.Claim) {
		for _, c := range claims {
			registered = append(registered, c.Service)
			if w.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
				ID: "instance of " + c.Service, Name: c.Service, Address: "127.0.0.1", Port: 1, Tags: c.Tags, Meta: c.Meta,
			}) != nil {
				refused, registered = refused+1, registered[:len(registered)-1]
			}
		}
	}
	all := hostile.Claims()
	big := slices.IndexFunc(all, func(c hostile.Claim) bool { return strings.HasPrefix(c.Service, "many-") })
	register(all[big:]...)
	w.must(lab.Until(w.ctx, 60*time.Second, "HAProxy has the legal ones", func() error {
		out, err := w.lb.Runtime(w.ctx, "show map "+w.lb.Config()+".web.map")
		if err == nil && (strings.Count(out, "many-"+hostile.Payload) != 100 || !strings.Contains(out, "profile-"+hostile.Payload)) {
			err = fmt.Errorf("%.2000s", out)
		}
		return err
	}))
	w.problem(`"service":"many-`+hostile.Payload+`"`, "max_routes")
	w.problem(`"service":"\"a ` + hostile.Payload)
	for some := range slices.Chunk(all[:big], 80) { // as many as are looked at
		registered = nil
		register(some...)
		w.claimsAreJudged(registered)
		for _, service := range registered {
			w.must(w.consul.Client.Agent().ServiceDeregister("instance of " + service))
		}
	}
	register(all[:big]...) // more than that
	t.Logf("Consul itself refuses %d of %d", refused, 2*len(all))
	w.problem("max_services")
	w.problem(hostile.VictimHost, "allow")
	w.fileIsCurrent()
	load.stop(t)
	if out, err := exec.CommandContext(w.ctx, programs.HAProxy, "-c", "-f", w.lb.Config()).CombinedOutput(); err != nil {
		t.Errorf("HAProxy rejects the file: %v\n%s", err, out)
	}
	entries, err := w.lb.Runtime(w.ctx, "show map "+w.lb.Config()+".web.map")
	w.must(err)
	entry := regexp.MustCompile(`^0x[0-9a-f]+ [a-z0-9*.-]+/\S* [A-Za-z0-9_.-]+(?:/\d)?$`)
	count := 0
	for line := range strings.Lines(entries) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		count++
		if !entry.MatchString(line) {
			t.Errorf("HAProxy's map has %q", line)
		}
	}
	if count < 100 {
		t.Errorf("HAProxy's map has %d routes only: this proves nothing\n%s", count, entries)
	}
	begins := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ \[[A-Z]+\] `)
	for line := range strings.Lines(w.lb.Sidecar.Tail(5000)) {
		if !begins.MatchString(line) || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			t.Errorf("logged: %q", line)
		}
	}
}
