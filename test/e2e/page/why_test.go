package page

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// backend is a program behind HAProxy, whose check passes unless it is ill.
type backend struct {
	ill  atomic.Bool
	held chan struct{} // closed once it has a request that it does not answer
	at   netip.AddrPort
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{held: make(chan struct{})}
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/held":
			close(b.held)
			select {
			case <-end:
			case <-r.Context().Done():
			}
		case b.ill.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(end) })
	b.at = netip.MustParseAddrPort(server.Listener.Addr().String())
	return b
}

// question is an instance that gets no traffic, or waits.
type question struct {
	of     string // service
	at     string // address, or the ID of one that is rejected
	reason string // pattern of what the operator reads
}

// why is a load balancer on which each instance has another reason.
type why struct {
	*site
	browser *browser
	seen    []string // what was told
}

// instance registers one with a check that the test sets, and gives its program.
func (w *why) instance(of, id string, change ...func(*api.AgentServiceRegistration)) *backend {
	w.Helper()
	b := newBackend(w.T)
	w.register(b, of, id, change...)
	return b
}

func (w *why) register(b *backend, of, id string, change ...func(*api.AgentServiceRegistration)) {
	w.Helper()
	r := &api.AgentServiceRegistration{
		ID: id, Name: of, Address: b.at.Addr().String(), Port: int(b.at.Port()),
		Check: &api.AgentServiceCheck{CheckID: id, TTL: "10m", Status: "passing"},
	}
	for _, c := range change {
		c(r)
	}
	w.must(w.consul.Client.Agent().ServiceRegister(r))
}

func (w *why) health(id, health string) {
	w.Helper()
	w.must(w.consul.Client.Agent().UpdateTTL(id, "", health))
}

func (w *why) up(of string, ids ...string) {
	w.Helper()
	w.must(w.lbs[0].Routes(w.ctx, 20*time.Second, of, ids...))
}

// hold sends a request to the only server of a service, which does not answer it.
func (w *why) hold(of string, b *backend) {
	w.Helper()
	go func() {
		req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, strings.TrimSuffix(w.lbs[0].URL(of), "/")+"/held", http.NoBody)
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}()
	select {
	case <-b.held:
	case <-w.ctx.Done():
		w.Fatalf("no request reached the server of %s", of)
	}
}

func leaving(r *api.AgentServiceRegistration) {
	r.Meta = map[string]string{"pointsman-drain": time.Now().UTC().Format(time.RFC3339)}
}

var explained = regexp.MustCompile(`(?m)^(?:takes traffic +no: |takes traffic +(?:unknown|as HAProxy decides): |waits +)(.*)$`)

// explain returns the reason as `pointsman explain` tells it.
func (w *why) explain(at string) (string, error) {
	cmd := exec.CommandContext(w.ctx, programs.Sidecar, "explain", at, "--config", w.lbs[0].Settings())
	out, err := cmd.CombinedOutput()
	if m := explained.FindSubmatch(out); m != nil && err == nil {
		return string(m[1]), nil
	}
	return "", errors.Join(err, fmt.Errorf("explain %s: %s", at, out))
}

// check asks on the command line, and looks whether the page says the same.
func (w *why) check(q question) {
	w.Helper()
	wants := regexp.MustCompile("^(?:" + q.reason + ")$")
	w.browser.do("look at "+q.at, chromedp.Navigate(w.lbs[0].StatusURL()+"/#/service/"+q.of))
	got := ""
	err := lab.Until(w.ctx, 25*time.Second, q.of+": the reason of "+q.at, func() (err error) {
		if got, err = w.explain(q.at); err != nil {
			return err
		}
		if !wants.MatchString(got) {
			return fmt.Errorf("explain says %q, want %q", got, q.reason)
		}
		row := fmt.Sprintf(`([...document.querySelectorAll('#view tbody tr, #view .note li')].find((r) => r.innerText.includes(%q) && !r.querySelector('caption'))?.innerText ?? 'no row')`, q.at)
		if shown := read[string](w.browser, row); !strings.Contains(shown, strings.TrimPrefix(got, "rejected: ")) {
			return fmt.Errorf("explain says %q, the page says %q", got, shown)
		}
		return nil
	})
	if err != nil {
		w.Error(err)
	}
	w.seen = append(w.seen, got)
}

// tellsCheck looks whether the command line and the page, which shows its service, have the
// output of an instance's check in Consul, and since when HAProxy has its server as it is.
func (w *why) tellsCheck(id string, at netip.AddrPort, output string) {
	w.Helper()
	out, err := exec.CommandContext(w.ctx, programs.Sidecar, "explain", id, "--config", w.lbs[0].Settings()).CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^Consul check +.*`+regexp.QuoteMeta(output)+`$`).Match(out) || !regexp.MustCompile(`(?m)^HAProxy +phase [a-z]+ since [0-9:]+ \(`).Match(out) {
		w.Errorf("explain %s: %v\n%s", id, err, out)
	}
	row := fmt.Sprintf(`[...document.querySelectorAll('#view tbody tr')].find((r) => r.innerText.includes(%q))?.innerText ?? ''`, at.String())
	w.browser.sees("the output of the check", fmt.Sprintf(`(%s).includes(%q)`, row, output))
	w.browser.sees("since when it is so", `/since \d\d:\d\d, \d+ s/.test(`+row+`)`)
}

// tellsWeight looks whether both tell of a weight that is not Consul's, or that HAProxy does
// not use yet.
func (w *why) tellsWeight(id string, at netip.AddrPort, explains, shows string) {
	w.Helper()
	out, err := exec.CommandContext(w.ctx, programs.Sidecar, "explain", id, "--config", w.lbs[0].Settings()).CombinedOutput()
	if err != nil || !regexp.MustCompile(explains).Match(out) {
		w.Errorf("explain %s: %v, want %s\n%s", id, err, explains, out)
	}
	w.browser.sees("its weight", fmt.Sprintf(`[...document.querySelectorAll('#view tbody tr')].find((r) => r.innerText.includes(%q))?.innerText.includes(%q)`, at.String(), shows))
}

// reasonsInCode returns the reasons that exist: what the functions and tables say that make
// them.
func reasonsInCode(t *testing.T) (reasons []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../sidecar/internal/reconcile/verdict.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		name := ""
		switch d := d.(type) {
		case *ast.FuncDecl:
			name = d.Name.Name
		case *ast.GenDecl:
			if v, is := d.Specs[0].(*ast.ValueSpec); is {
				name = v.Names[0].Name
			}
		}
		if name != "outOfTraffic" && name != "waitWords" {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if l, is := n.(*ast.BasicLit); is && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil && strings.Contains(text, " ") {
					reasons = append(reasons, text)
				}
			}
			return true
		})
	}
	return reasons
}

// "Why does this server get no traffic?" One command and one look at the page answer it,
// with the same words, for each reason that exists (issue 15).
func TestWhy_EachReason_SameOnTheCommandLineAndOnThePage(t *testing.T) {
	t.Parallel()
	w := &why{site: newSite(t, 0)}
	agent := lab.Listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "maint\n") })
	own := newBackend(t)
	lb, err := w.lab.NewBalancer("lb0", w.consul,
		lab.Service{Name: "api"}, lab.Service{Name: "mixed", Extra: "    backend_extra: \"server own " + own.at.String() + "\"\n"},
		lab.Service{Name: "strict", Extra: "    warning_takes_traffic: false\n"},
		lab.Service{Name: "leaving"}, lab.Service{Name: "gone"},
		lab.Service{Name: "role", Extra: "    tags: [primary]\n"},
		lab.Service{Name: "single", Extra: "    replacement_timeout: 10m\n"},
		lab.Service{Name: "held"},
		lab.Service{Name: "flapping", Extra: "    damping: {flaps: 1, min: 10m, max: 10m, forget: 1h}\n"},
		lab.Service{Name: "agent", Extra: fmt.Sprintf("    server_options: agent-check agent-port %d agent-inter 200ms\n", agent.Port)},
		lab.Service{Name: "canary"}, lab.Service{Name: "spare"},
		lab.Service{Name: "slow", Extra: "    slow_start: 10m\n"},
		lab.Service{Name: "full", Extra: "    slots: {force: true, min: 1, spare: 0}\n"},
	)
	w.must(err)
	w.lbs = append(w.lbs, lb)
	w.must(lb.SetExtra("addresses: {allow: [127.0.0.0/8]}\nreload: {debounce: 1m, max_delay: 10m}\n"))
	w.instance("spare", "spare-1") // before the start: in slots, a backup takes a reload
	spare := w.instance("spare", "spare-2", func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"backup": "true"} })
	w.must(lb.Start(w.ctx))
	w.browser = newBrowser(w.ctx, t)
	asks := func(of string, at any, reason string) {
		t.Helper()
		w.check(question{of, fmt.Sprint(at), reason})
	}

	// What Consul says.
	ids := []string{"fill-1", "fill-2", "fill-3", "fill-4", "critical", "maint", "drained", "light", "ill"}
	of := map[string]*backend{}
	for _, id := range ids {
		of[id] = w.instance("api", id, func(r *api.AgentServiceRegistration) { r.Weights = &api.AgentWeights{Passing: 1, Warning: 0} })
	}
	strict := []*backend{w.instance("strict", "strict-1"), w.instance("strict", "strict-2")}
	w.up("api", ids...)
	w.up("strict", "strict-1", "strict-2")
	w.must(w.consul.Client.Agent().UpdateTTL("critical", "no space\nleft on \x1b[2J<b>disk</b>", "critical"))
	w.health("strict-1", "warning")
	w.health("light", "warning")
	w.must(w.consul.Client.Agent().EnableServiceMaintenance("maint", ""))
	w.says(0, "", "drain", "api/drained")
	w.register(own, "api", "rejected", func(r *api.AgentServiceRegistration) { r.Address = "169.254.169.254" })
	asks("api", of["critical"].at, "its check in Consul is critical")
	w.tellsCheck("critical", of["critical"].at, "no space left on \uFFFD[2J<b>disk</b>")
	asks("strict", strict[0].at, "its check in Consul is warning")
	asks("api", of["light"].at, "its weight is 0")
	asks("api", of["maint"].at, "maintenance mode in Consul")
	asks("api", of["drained"].at, "an operator keeps it in drain")
	asks("api", "rejected", "rejected: .*169.254.169.254.*")
	asks("mixed", own.at, "a server of the operator's own, left alone")

	// What HAProxy says.
	fresh := newBackend(t)
	fresh.ill.Store(true)
	w.register(fresh, "api", "fresh")
	asks("api", fresh.at, "HAProxy's check has not passed yet: L7STS 503.*")
	of["ill"].ill.Store(true)
	asks("api", of["ill"].at, "HAProxy's check fails: L7STS 503.*")
	agented := w.instance("agent", "agent-1")
	asks("agent", agented.at, ".*its agent check keeps it out of traffic")

	versioned := func(version string) func(*api.AgentServiceRegistration) {
		return func(r *api.AgentServiceRegistration) { r.Meta = map[string]string{"version": version} }
	}
	w.instance("canary", "canary-1", versioned("1.0"))
	aborted := w.instance("canary", "canary-2", versioned("1.1"))
	w.up("canary", "canary-1", "canary-2")
	w.says(0, "", "rollout", "set", "canary", "1.0=100", "1.1=0")
	asks("canary", aborted.at, "the rollout gives it no share of the traffic")
	w.tellsWeight("canary-2", aborted.at, `weight 0 of 1 \(the rollout's share\)`, "Consul's 1: the rollout's share")
	heavy := func(r *api.AgentServiceRegistration) { r.Weights = &api.AgentWeights{Passing: 100, Warning: 1} }
	slow := w.instance("slow", "slow-1", heavy)
	w.up("slow", "slow-1")
	w.browser.do("the service that starts slowly", chromedp.Navigate(lb.StatusURL()+"/#/service/slow"))
	w.tellsWeight("slow-1", slow.at, `weight 100,(?s:.*)\nslow start +weight \d+ of 100 now \(\d%\)`, "of 100: slow start, ")

	w.up("spare", "spare-1", "spare-2")
	asks("spare", spare.at, "it is a backup, used while no other server of the backend is up")

	w.browser.do("the service", chromedp.Navigate(lb.StatusURL()+"/#/service/api"))
	w.browser.accessible("each phase")

	// What it waits for.
	w.up("leaving")
	parting := w.instance("leaving", "leaving-1")
	w.up("leaving", "leaving-1")
	w.hold("leaving", parting)
	w.instance("leaving", "leaving-2")
	w.up("leaving", "leaving-1", "leaving-2")
	w.register(parting, "leaving", "leaving-1", leaving)
	asks("leaving", parting.at, "it is leaving; waiting for its sessions to end")

	gone := w.instance("gone", "gone-1")
	w.up("gone", "gone-1")
	w.hold("gone", gone)
	w.instance("gone", "gone-2")
	w.up("gone", "gone-1", "gone-2")
	w.must(w.consul.Client.Agent().ServiceDeregister("gone-1"))
	asks("gone", gone.at, "Consul no longer lists it; waiting for its sessions to end")

	tagged := func(tags ...string) func(*api.AgentServiceRegistration) {
		return func(r *api.AgentServiceRegistration) { r.Tags = tags }
	}
	role := w.instance("role", "role-1", tagged("primary"))
	w.up("role", "role-1")
	w.hold("role", role)
	w.instance("role", "role-2", tagged("primary"))
	w.up("role", "role-1", "role-2")
	w.register(role, "role", "role-1", tagged("replica"))
	asks("role", role.at, "its instance lacks a tag of the backend; waiting for its sessions to end")

	only := w.instance("single", "single-1")
	w.up("single", "single-1")
	next := newBackend(t)
	next.ill.Store(true)
	w.register(next, "single", "single-2")
	w.register(only, "single", "single-1", leaving)
	asks("single", only.at, "waiting for a replacement that is up")

	var held []*backend
	for i := range 4 {
		node := map[bool]string{true: "stays", false: "gone"}[i == 3]
		b := newBackend(t)
		held = append(held, b)
		_, err = w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: "127.0.0.1", Service: &api.AgentService{ID: fmt.Sprintf("held-%d", i), Service: "held", Port: int(b.at.Port())},
		}, nil)
		w.must(err)
	}
	w.up("held", "held-0", "held-1", "held-2", "held-3")
	_, err = w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "gone"}, nil)
	w.must(err)
	asks("held", held[0].at, "held by the guard, HAProxy's check decides")

	flapping := w.instance("flapping", "flapping-1")
	w.instance("flapping", "flapping-2")
	w.up("flapping", "flapping-1", "flapping-2")
	w.health("flapping-1", "critical")
	asks("flapping", flapping.at, "its check in Consul is critical")
	w.health("flapping-1", "passing")
	asks("flapping", flapping.at, "HAProxy has it in maint; flapping, suppressed until stable")

	w.instance("full", "full-1")
	w.up("full", "full-1")
	full := w.instance("full", "full-2")
	asks("full", full.at, "HAProxy has no server for it yet; waiting for a slot, which takes a reload")

	// Who knows nothing does not say that it is gone, and not that it gets no traffic.
	w.must(lb.HAProxy.Kill())
	asks("api", of["fill-1"].at, "HAProxy does not run or cannot be read")
	w.must(lb.StartHAProxy(w.ctx))
	w.up("strict", "strict-2")
	w.must(lb.Sidecar.Stop(10 * time.Second))
	w.must(w.consul.Kill())
	w.must(lb.StartSidecar())
	asks("api", of["fill-1"].at, "waiting for a complete answer from Consul")

	for _, reason := range reasonsInCode(t) {
		if !slices.ContainsFunc(w.seen, func(s string) bool { return strings.Contains(s, reason) }) {
			t.Errorf("the reason %q was not seen", reason)
		}
	}
}
