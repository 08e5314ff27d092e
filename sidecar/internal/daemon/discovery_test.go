package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/templates"
)

// discovering is a sidecar whose settings a test changes, and what reads them.
func discovering(t *testing.T, text string) (d *Daemon, change func(text string)) {
	t.Helper()
	return discoveringWith(t, "", text)
}

func discoveringWith(t *testing.T, template, text string) (d *Daemon, change func(text string)) {
	t.Helper()
	dir := t.TempDir()
	read := func() (config.Config, error) {
		return config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) {
			return []byte(text + "\nhaproxy: {template: \"" + template + "\", socket: " + dir + "/admin.sock, config: " + dir + "/haproxy.cfg, check_command: []}\napi: {address: \"127.0.0.1:0\"}\n"), nil
		}})
	}
	cfg, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if d, err = New(t.Context(), cfg, Options{Adopt: true, Log: io.Discard, Version: "test", Reload: read}); err != nil {
		t.Fatal(err)
	}
	return d, func(changed string) {
		text = changed
		d.reloadConfig(t.Context())
	}
}

const takesRoutes = `
frontends:
  - name: web
    bind: "127.0.0.1:8080"
    discover: {tag_prefix: "route=", allow: [{host: "*", services: "*"}]}
`

// A service that was found in Consul, and gets its own settings.
func TestReloadConfig_FoundServiceComesIntoTheSettings_IsTaken(t *testing.T) {
	for name, settings := range map[string]string{
		"by name":    "services: [{name: shop}]",
		"by backend": "services: [{name: other, backend: shop}]",
	} {
		d, change := discovering(t, "services: []"+takesRoutes)
		d.finder.watched = []string{"shop", "rest"}
		d.found = route.Found{Services: []route.FoundService{{Name: "shop"}}, Routes: []*route.FoundRoute{{Frontend: "web", Host: "a.test", Service: "shop", Source: route.FromTag}}}
		change(settings + takesRoutes)
		if len(d.cfg.Services) != 1 {
			t.Errorf("%s: the settings are refused", name)
		}
		var names []string
		for _, s := range watchedWith(d.cfg, d.found, d.finder.watched, nil) {
			names = append(names, s.Backend)
		}
		if got := strings.Join(names, " "); got != "shop rest" {
			t.Errorf("%s: watched are the backends %q", name, got)
		}
	}
}

// A service gets no backend of a name that the operator's template has.
func TestRefuse_SectionOfTheTemplate_IsNoServicesName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own.tmpl")
	write := func(own string) {
		if err := os.WriteFile(path, []byte(templates.HAProxy+own), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\nbackend internal\n    server a 127.0.0.1:1\nlisten \"other\"\n    bind 127.0.0.1:2\ndefaults named\n")
	d, change := discoveringWith(t, path, "services: []"+takesRoutes)
	refused := func(want string) {
		t.Helper()
		got := ""
		for _, s := range []string{"internal", "other", "later", "pointsman", "named", "shop"} {
			if d.cfg.Rules().Refuse(s) != nil {
				got += s + " "
			}
		}
		if got != want {
			t.Errorf("refused are %q, want %q", got, want)
		}
	}
	refused("internal other named ")
	d.found = route.Found{
		Services: []route.FoundService{{Name: "later"}, {Name: "shop"}},
		Routes:   []*route.FoundRoute{{Frontend: "web", Host: "a.test", Service: "later"}, {Frontend: "web", Host: "b.test", Service: "shop"}},
	}
	write("\nbackend later\n    server a 127.0.0.1:1\n")
	change("services: []" + takesRoutes)
	refused("later ")
	if len(d.found.Services) != 1 || len(d.found.Routes) != 1 || d.found.Services[0].Name != "shop" {
		t.Errorf("after the SIGHUP there is %+v", d.found)
	}
}

// What listens by the newest settings counts: no instance may be there.
func TestWatchServices_AfterAReload_ByTheListenersOfNow(t *testing.T) {
	d, change := discovering(t, "services: [{name: a}]"+takesRoutes)
	change("services: [{name: a}]" + strings.ReplaceAll(takesRoutes, "8080", "8081"))
	ports := map[uint16]bool{}
	for _, l := range d.watching()[0].Addresses.Own {
		ports[l.First] = true
	}
	if !ports[8081] || ports[8080] {
		t.Errorf("the listeners are at %v", ports)
	}
}

// Routes and services that leave the settings and are claimed in Consul are there all the time.
func TestReloadConfig_ClaimedMeanwhile_TakesThePlaceOfTheSettings(t *testing.T) {
	const base = "\nconsul: {address: %q}\ndiscovery: {grace: 1h}\nservices: [%s]\nfrontends:\n- name: web\n  bind: 127.0.0.1:8080\n  routes: [%s]\n  discover: {tag_prefix: %q, allow: [{host: \"*\", services: \"*\"}]}\n"
	const before = `{host: a.test, service: own}`
	for name, c := range map[string]struct {
		services, routes           string
		servicesAfter, routesAfter string
		prefix                     string
		want                       []string
	}{
		"a route":                      {"{name: own}", before, "{name: own}", "", "route=", []string{"shop", "a.test shop"}},
		"a service":                    {"{name: own}, {name: shop}", "{host: a.test, service: shop}", "{name: own}", "", "route=", []string{"shop", "a.test shop"}},
		"a service with a new service": {"{name: own}, {name: shop}", "{host: a.test, service: shop}", "{name: own}, {name: new}", "", "route=", []string{"shop", "a.test shop"}},
		"a service that claims others": {"{name: own}, {name: shop}", "{host: a.test, service: shop}", "{name: own}", before, "route=", nil},
		"with other claims":            {"{name: own}", before, "{name: own}", "", "other=", nil},
	} {
		t.Run(name, func(t *testing.T) {
			fake := consultest.NewFake(t)
			client, err := api.NewClient(&api.Config{Address: fake.Address(), Scheme: "http"})
			if err != nil {
				t.Fatal(err)
			}
			for i, service := range []string{"own", "shop"} {
				r := &api.CatalogRegistration{Node: service, Address: "192.0.2.1", Service: &api.AgentService{ID: service, Service: service, Port: 1 + i}}
				if service == "shop" {
					r.Service.Tags = []string{"route=a.test"}
				}
				if _, err := client.Catalog().Register(r, nil); err != nil {
					t.Fatal(err)
				}
			}
			d, change := discovering(t, fmt.Sprintf(base, fake.Address(), c.services, c.routes, "route="))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- d.source.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
			d.finder.named, d.finder.isNamed = []string{"own", "shop"}, true
			haproxytest.Until(t, "Consul has answered", func() bool {
				d.find(time.Now())
				snap := d.source.Snapshot()
				return snap.Service("own").Known && snap.Service("shop").Known
			})
			d.find(time.Now())
			change(fmt.Sprintf(base, fake.Address(), c.servicesAfter, c.routesAfter, c.prefix))
			var got []string
			for _, s := range d.found.Services {
				got = append(got, s.Name)
			}
			for _, r := range d.found.Routes {
				got = append(got, r.Host+" "+r.Service)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("found, -want +got:\n%s", diff)
			}
			if len(c.want) > 0 && !d.source.Snapshot().Service("shop").Known {
				t.Error("what Consul has said of the service is forgotten")
			}
		})
	}
}

// Claims that change without end take no more than a share of the time, also if they
// change nothing. After a time of quiet a change is looked at at once.
func TestFinder_Pause_BoundsTheShareOfLooking(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond} {
		f, now, first := &finder{}, time.Unix(43200, 0), 0
		looked := time.Duration(0)
		for end := now.Add(10 * time.Minute); now.Before(end); {
			pause := f.pause(now)
			if pause <= 0 && looked == time.Duration(first)*took {
				first++
			}
			now = now.Add(max(pause, 0))
			f.looked(now, now.Add(took))
			now, looked = now.Add(took), looked+took
		}
		if share := looked.Seconds() / (10 * time.Minute).Seconds(); share > 1.1/foundShare || share < 0.9/foundShare {
			t.Errorf("looks of %s take %.3f of the time, want %.3f", took, share, 1.0/foundShare)
		}
		if want := int(foundBurst / took); first < want {
			t.Errorf("%d looks of %s without a pause, want %d", first, took, want)
		}
	}
	f, now := &finder{}, time.Unix(43200, 0)
	f.looked(now, now.Add(time.Minute))
	if got := f.pause(now.Add(time.Minute)); got != route.SettleTime {
		t.Errorf("after one that took a minute: %s, want %s", got, route.SettleTime)
	}
}

// A refused claim is logged once; claims with other words each time fill no log.
func TestFinder_RefusedClaimsChangeWithoutEnd_LogIsBounded(t *testing.T) {
	var out bytes.Buffer
	f := newFinder(nil, hclog.New(&hclog.LoggerOptions{Output: &out}))
	at := time.Unix(43200, 0)
	said := 0
	say := func(count int) (lines int, last string) {
		out.Reset()
		var all []route.Problem
		for range count {
			said++
			all = append(all, route.Problem{Service: "evil", Claim: fmt.Sprintf("%d", said)})
		}
		f.tell(append(all, route.Problem{Service: "a", Claim: "stays"}), at)
		return strings.Count(out.String(), "\n"), out.String()
	}
	if lines, _ := say(1); lines != 2 {
		t.Errorf("%d lines for two", lines)
	}
	if lines, text := say(1); lines != 1 || strings.Contains(text, "stays") {
		t.Errorf("logged again: %s", text)
	}
	lines := 0
	for range 100 {
		n, _ := say(10)
		lines += n
	}
	if lines > maxRefusedLogged {
		t.Errorf("%d lines for 1,000 in a minute", lines)
	}
	at = at.Add(time.Minute)
	if n, text := say(1); n != 2 || !strings.Contains(text, "not_logged=") {
		t.Errorf("a minute later %d lines: %s", n, text)
	}
	if n, _ := say(1); n != 1 {
		t.Errorf("then %d lines", n)
	}
	if got := *f.problems.Load(); len(got) != 2 {
		t.Errorf("published: %v", got)
	}
}

// A service may not claim more routes than are kept of what it says.
func TestLoad_MaxRoutes_IsWhatIsKeptOfClaims(t *testing.T) {
	for most, want := range map[int]bool{consul.MaxClaims: true, consul.MaxClaims + 1: false} {
		_, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) {
			return fmt.Appendf(nil, "services: []\ndiscovery: {max_routes: %d}\n", most), nil
		}})
		if (err == nil) != want {
			t.Errorf("max_routes %d: %v", most, err)
		}
	}
}

// The sidecar before may find something while this one waits for it to stop.
func TestHold_FoundMeanwhile_IsReadFromTheFile(t *testing.T) {
	d, _ := discovering(t, "services: []"+takesRoutes)
	found := route.Found{Services: []route.FoundService{{Name: "shop"}}, Routes: []*route.FoundRoute{{Frontend: "web", Host: "a.test", Service: "shop", Source: route.FromTag}}}
	if err := os.WriteFile(d.cfg.HAProxy.Config, []byte(fileOf(t, d.cfg.With(found), nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := d.hold(t.Context(), "lb0")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if diff := cmp.Diff(found, d.found, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

// Without discover there is no answer to wait for: what was found goes after the grace time.
func TestFind_DiscoverIsSwitchedOff_ServicesGo(t *testing.T) {
	d, change := discovering(t, "services: []"+takesRoutes)
	d.found = route.Found{Services: []route.FoundService{{Name: "shop"}}, Routes: []*route.FoundRoute{{Frontend: "web", Host: "a.test", Service: "shop", Source: route.FromTag}}}
	change("services: []")
	now := time.Now()
	if again := d.find(now); len(d.found.Services) != 1 || len(d.found.Routes) != 0 || again > 30*time.Second {
		t.Errorf("%+v, again in %s", d.found, again)
	}
	if again := d.find(now.Add(31 * time.Second)); again > route.GatherTime {
		t.Errorf("after the grace time, again in %s", again)
	}
	if d.find(now.Add(31*time.Second + route.GatherTime)); len(d.found.Services) != 0 {
		t.Errorf("%+v after the grace time", d.found)
	}
}

// A change of routes takes a shorter way than one of services, to the same end.
func TestSetFound_OnlyRoutesDiffer_GivesWhatNewSettingsWould(t *testing.T) {
	d, change := discovering(t, "services: [{name: own}, {name: other, backend: others}]"+takesRoutes+`    routes: [{host: own.test, service: own}, {host: set.test, methods: GET, service: own}, {host: set.test, service: others}]
`)
	d.finder.tracker.Unheard = route.Unheard{}.After(nil, true)
	services := []route.FoundService{{Name: "cart"}, {Name: "shop"}}
	routes := func(of ...string) (out []*route.FoundRoute) {
		for i, service := range of {
			out = append(out, &route.FoundRoute{Frontend: "web", Host: fmt.Sprintf("h%d.test", i), Service: service, Source: route.FromTag})
		}
		return out
	}
	for n, found := range []route.Found{
		{Services: services, Routes: routes("cart", "shop")},
		{Services: services, Routes: routes("cart", "cart", "other")},
		{Services: services, Routes: routes()},
		{Services: services[:1], Routes: routes("cart")},
		{Services: services[:1], Routes: routes("own", "cart")},
	} {
		before := d.newest
		d.mu.Lock()
		d.setFound(found, false)
		d.mu.Unlock()
		whole := asStarted(d.cfg, d.started).With(d.found)
		fresh, err := newRendererWith(whole, d.peers)
		if err != nil {
			t.Fatal(err)
		}
		want, errWant := fresh.Render(nil)
		got, err := d.newest.Render(nil)
		if diff := cmp.Diff(string(want), string(got)); diff != "" || errors.Join(err, errWant) != nil {
			t.Errorf("%d: haproxy.cfg (-new settings +got): %v %v\n%s", n, err, errWant, diff)
		}
		if d.newest == before || d.newest.Marker() != fresh.Marker() {
			t.Errorf("%d: the marker is %v, want %v", n, d.newest.Marker(), fresh.Marker())
		}
		set := asHeard(settings(whole, fresh), d.finder.tracker.Unheard)
		if diff := cmp.Diff(set.Maps, d.set.Maps) + cmp.Diff(set.Services, d.set.Services); diff != "" || d.set.Renderer.(renderer).Renderer != d.newest {
			t.Errorf("%d: settings (-new +got):\n%s", n, diff)
		}
	}
	change("services: [{name: own}]" + takesRoutes)
	if diff := cmp.Diff(settings(d.cfg.With(d.found), d.newest).Services, d.set.Services); diff != "" {
		t.Errorf("after a SIGHUP (-want +got):\n%s", diff)
	}
}

// Until Consul has said what is claimed, HAProxy keeps routes that services may claim, and
// backends of services that had gone: haproxy.cfg may not have the newest.
func TestFind_SidecarStarts_KeepsWhatServicesMayClaimUntilConsulHasAnswered(t *testing.T) {
	const text = "services: [{name: own, backend: owns}, {name: raw, mode: tcp}]\n" + `
frontends:
  - name: web
    bind: "127.0.0.1:8080"
    routes: [{host: set.test, service: own}]
    discover: {tag_prefix: "route=", allow: [{host: "shop.test", services: "shop"}, {host: "*.test", services: ["own", "raw"]}]}
  - {name: plain, bind: "127.0.0.1:8081", default: own}
`
	d, change := discovering(t, text)
	d.mu.Lock()
	d.setFound(route.Found{Services: []route.FoundService{{Name: "gone"}}}, false)
	d.setFound(route.Found{}, false)
	d.mu.Unlock()
	hasGone := func() bool {
		return slices.ContainsFunc(d.set.Services, func(s plan.Service) bool { return s.Name == "gone" && s.Gone })
	}
	change(text) // it starts
	for line, want := range map[route.Entry]bool{
		{Key: "shop.test/", Value: "shop"}:        true,
		{Key: "shop.test/cart/", Value: "shop/1"}: true,
		{Key: "a.test/", Value: "owns"}:           true,
		{Key: "a.test/", Value: "shop"}:           false, // allow names it for another host
		{Key: "set.test/", Value: "own"}:          false, // one of the settings
		{Key: "a.test/", Value: "raw_nodes"}:      false, // no service in mode tcp may have one
		{Key: "shop.test/", Value: "statistics"}:  false,
	} {
		if got := d.set.Maps[0].Keep(line); got != want {
			t.Errorf("%v is kept: %v, want %v", line, got, want)
		}
	}
	if d.set.Maps[1].Keep != nil || hasGone() {
		t.Errorf("a frontend that takes no routes keeps: %v; the backend of a service that had gone is to be deleted: %v", d.set.Maps[1].Keep != nil, hasGone())
	}
	isUnheard := func(backends ...string) (all []bool) {
		for _, b := range backends {
			all = append(all, d.set.Unheard != nil && d.set.Unheard(b))
		}
		return all
	}
	if got := isUnheard("owns", "shop"); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("at the start, own and shop are unheard: %v, want both", got)
	}
	d.finder.isNamed = true
	d.find(time.Now()) // the claims of the settings' services are awaited
	if got := isUnheard("owns", "shop"); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("while they are awaited, own and shop are unheard: %v, want both", got)
	}
	d.find(time.Now().Add(route.SettleTime)) // Consul has no shop, and still no answer for own
	if got := isUnheard("owns", "shop"); !slices.Equal(got, []bool{true, false}) || !hasGone() {
		t.Errorf("when others no longer wait, own and shop are unheard: %v, want own; the backend of a service that had gone is to be deleted: %v", got, hasGone())
	}
	if change(text); !slices.Equal(isUnheard("owns", "shop"), []bool{true, false}) {
		t.Error("after a SIGHUP, another is unheard")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.finder.tracker.Unheard = d.finder.tracker.Unheard.After([]route.Candidate{{Service: "own", Known: true}}, true)
	if d.reconfigure(d.newest, d.set); d.set.Unheard != nil || d.set.Maps[0].Keep != nil {
		t.Error("all are heard, and something is kept")
	}
}

// Where no frontend takes routes from Consul, there is no answer to wait for.
func TestFind_NoFrontendDiscovers_BackendsOfGoneServicesAreDeleted(t *testing.T) {
	d, _ := discovering(t, "services: [{name: own}]")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.setFound(route.Found{Services: []route.FoundService{{Name: "gone"}}}, false)
	d.setFound(route.Found{}, false)
	if !slices.ContainsFunc(d.set.Services, func(s plan.Service) bool { return s.Gone }) {
		t.Error("the backend is left")
	}
}
