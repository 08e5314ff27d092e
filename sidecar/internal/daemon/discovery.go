package daemon

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

const (
	// foundShare bounds what looking takes of the time, and foundBurst what it may take at
	// once after a time of quiet.
	foundShare = 5
	foundBurst = 250 * time.Millisecond
	// maxRefusedLogged is how many refused claims are logged in a minute.
	maxRefusedLogged = 100
)

// SavedFound is what was found according to haproxy.cfg, as far as the settings allow it:
// what is known while Consul has said nothing.
func SavedFound(cfg config.Config) route.Found {
	content, _ := render.ReadRegular(cfg.HAProxy.Config) // there may be none yet
	return stillAllowed(cfg, render.FoundIn(content))
}

// WithTaken is the settings with what haproxy.cfg, and the operator's own file before it,
// have besides what is found. A template that cannot be rendered is found by what renders
// with it.
func WithTaken(cfg config.Config) config.Config {
	cfg.Taken = nil
	r, err := NewRenderer(cfg)
	if err != nil {
		return cfg
	}
	content, _ := r.Render(nil)
	cfg.Taken = render.Names(content)
	if path := cfg.HAProxy.BaseConfig; path != "" {
		base, _ := render.ReadRegular(path) // one that cannot be read is HAProxy's error
		cfg.Taken = append(cfg.Taken, render.Names(base)...)
	}
	return cfg
}

// stillAllowed leaves out what the settings do not allow.
func stillAllowed(cfg config.Config, found route.Found) route.Found {
	var unknown []route.Candidate
	for _, r := range found.Routes {
		unknown = append(unknown, route.Candidate{Service: r.Service})
	}
	slices.SortFunc(unknown, func(a, b route.Candidate) int { return strings.Compare(a.Service, b.Service) })
	unknown = slices.CompactFunc(unknown, func(a, b route.Candidate) bool { return a.Service == b.Service })
	allowed, _ := route.Discover(cfg.Rules(), time.Now(), false, found, unknown)
	return allowed.After(found, time.Now())
}

// withCandidates is the settings with the services that are watched besides those of the
// settings.
func withCandidates(cfg config.Config, found route.Found, services []string) config.Config {
	all := slices.Clone(found.Services)
	for _, s := range services {
		isOwn := slices.ContainsFunc(cfg.Services, func(c config.Service) bool { return c.Name == s || c.Backend == s })
		if !isOwn && !slices.ContainsFunc(all, func(f route.FoundService) bool { return f.Name == s }) {
			all = append(all, route.FoundService{Name: s})
		}
	}
	return cfg.With(route.Found{Services: all})
}

// watchedWith is the settings' services, those found, and the candidates besides.
func watchedWith(cfg config.Config, found route.Found, services []string, own []consul.Listener) []consul.Service {
	out := watched(withCandidates(cfg, found, services), own)
	for i := len(watched(cfg, nil)); i < len(out); i++ {
		out[i].Quiet = !slices.ContainsFunc(found.Services, func(f route.FoundService) bool { return f.Name == out[i].Name })
	}
	return out
}

// candidates is what the services say that may claim routes. read gives what one claims.
func candidates(cfg config.Config, services []string, snap catalog.Snapshot, read func(service string, said []catalog.Claim) []route.Claim) []route.Candidate {
	out, seen := make([]route.Candidate, 0, len(cfg.Services)+len(services)), make(map[string]bool, len(cfg.Services))
	service := snap.InOrder()
	add := func(name, backend string) {
		if !seen[name] {
			s := service(backend)
			out = append(out, route.Candidate{Service: name, Known: s.Known, Claims: read(name, s.Claims)})
		}
	}
	for _, s := range cfg.Services {
		add(s.Name, s.Backend)
		seen[s.Name] = true
	}
	for _, s := range services { // each is there once
		add(s, s)
	}
	return out
}

func claimsOf(_ string, said []catalog.Claim) (read []route.Claim) {
	for _, claim := range said {
		read = append(read, route.Claim(claim))
	}
	return read
}

// finder follows what services claim, beside the agent's loop.
type finder struct {
	log    hclog.Logger
	source *consul.Source
	again  chan struct{} // one value: the settings are new

	problems atomic.Pointer[[]route.Problem]

	// The daemon's mu guards these.
	tracker route.Tracker
	watched []string                   // services that are looked at
	ruled   *route.Rules               // of the settings of now; nil: not made yet
	looks   watchList                  // what was last made of them
	claims  map[string]candidateClaims // by service, as last said

	// The rest belongs to the goroutine of followFound.
	named   []string  // services that may claim routes
	isNamed bool      // they are known, by the settings of now
	rested  time.Time // when looking would have had its share of the time
	logged  map[route.Problem]bool
	minute  time.Time // since when refused counts
	refused int       // new refused claims, logged or not
}

func newFinder(source *consul.Source, log hclog.Logger) *finder {
	f := &finder{log: log, source: source, again: make(chan struct{}, 1)}
	f.problems.Store(&[]route.Problem{})
	return f
}

// rules is what the settings of now allow. The caller holds the daemon's mu.
func (f *finder) rules(cfg config.Config) route.Rules {
	if f.ruled == nil {
		rules := cfg.Rules()
		f.ruled = &rules
	}
	return *f.ruled
}

// forget takes that the settings are others. The caller holds the daemon's mu.
func (f *finder) forget() {
	f.ruled, f.looks, f.claims = nil, watchList{}, nil
	f.tracker.Finder.Forget()
}

// watchList is the services that are looked at, and what it was made from.
type watchList struct {
	named    []string
	found    []route.FoundService
	services []string
	problems []route.Problem
}

// watch is Rules.Watch. It is made again where something else is named or found.
func (f *finder) watch(rules route.Rules, found route.Found) ([]string, []route.Problem) {
	w := &f.looks
	isSame := len(f.named) == len(w.named) && (len(f.named) == 0 || &f.named[0] == &w.named[0]) &&
		slices.EqualFunc(w.found, found.Services, func(a, b route.FoundService) bool { return a.Name == b.Name })
	if !isSame || w.services == nil {
		*w = watchList{named: f.named, found: found.Services}
		w.services, w.problems = rules.Watch(f.named, found)
	}
	return w.services, w.problems
}

// candidateClaims is what a service claims, as Consul says it and as package route reads it.
type candidateClaims struct {
	said []catalog.Claim
	read []route.Claim
}

// candidates is what the services say that may claim routes.
func (f *finder) candidates(cfg config.Config, services []string, snap catalog.Snapshot) []route.Candidate {
	if f.claims == nil || len(f.claims) > 2*(len(cfg.Services)+len(services)) { // of services that have gone
		f.claims = map[string]candidateClaims{}
	}
	return candidates(cfg, services, snap, func(service string, said []catalog.Claim) []route.Claim {
		c := f.claims[service]
		if len(c.said) != len(said) || len(said) > 0 && &c.said[0] != &said[0] {
			c = candidateClaims{said, claimsOf(service, said)}
			f.claims[service] = c
		}
		return c.read
	})
}

// reconfigured makes it go on with the settings of now.
func (f *finder) reconfigured() {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// followFound makes services and routes of what is claimed in Consul, until ctx ends.
func (d *Daemon) followFound(ctx context.Context) error {
	f := d.finder
	names := make(chan []string, 1)
	stop := func() {}
	defer func() { stop() }()
	follow := func() {
		stop()
		stop = func() {}
		d.mu.Lock()
		rules := d.cfg.Rules()
		d.mu.Unlock()
		f.isNamed = false
		select {
		case <-names: // of the settings of before
		default:
		}
		if len(rules.Frontends) == 0 {
			return
		}
		asking, end := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.source.FollowNames(asking, rules.Takes, func(found []string) {
				select {
				case <-names:
				default:
				}
				names <- found
			})
		}()
		stop = func() { end(); <-done }
	}
	follow()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case f.named = <-names:
			f.isNamed = true
		case <-f.again:
			follow()
		case <-f.source.Claimed():
		case <-timer.C:
		}
		if pause := f.pause(time.Now()); pause > 0 {
			select {
			case <-ctx.Done():
				continue
			case <-time.After(pause):
			}
		}
		select {
		case f.named = <-names:
			f.isNamed = true
		default:
		}
		timer.Reset(d.find(time.Now()))
	}
}

// pause is how long the next look has to wait.
func (f *finder) pause(now time.Time) time.Duration { return f.rested.Sub(now) }

// looked takes that a look began and ended. A slow one, as the first, holds up the next
// for a bounded time.
func (f *finder) looked(began, ended time.Time) {
	if earliest := began.Add(-foundShare * foundBurst); f.rested.Before(earliest) {
		f.rested = earliest
	}
	f.rested = f.rested.Add(foundShare * ended.Sub(began))
	if latest := ended.Add(route.SettleTime); f.rested.After(latest) {
		f.rested = latest
	}
}

// find decides what is found, and gives the time until it is to be called again.
func (d *Daemon) find(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	f, rules := d.finder, d.finder.rules(d.cfg)
	began := time.Now()
	defer func() { f.looked(began, time.Now()) }()
	watch, problems := f.watch(rules, d.found)
	if !slices.Equal(watch, f.watched) {
		f.watched = watch
		d.watchServices()
	}
	said := f.candidates(d.cfg, watch, f.source.Snapshot())
	look := f.tracker.Look(rules, now, f.isNamed, d.found, said)
	f.tell(slices.Concat(problems, look.Problems), now)
	if !look.IsDue {
		return look.Again
	}
	d.setFound(look.Found, look.HasHeard)
	return d.found.Until(rules.Grace, f.tracker.IsSettled, now, look.Again)
}

// tell publishes the problems, and logs each once, as far as there are not too many.
func (f *finder) tell(problems []route.Problem, at time.Time) {
	if at.Sub(f.minute) >= time.Minute {
		if more := f.refused - maxRefusedLogged; more > 0 {
			f.log.Warn("route claims refused too often, not all logged", "not_logged", more)
		}
		f.minute, f.refused = at, 0
	}
	now := make(map[route.Problem]bool, len(problems))
	for _, p := range problems {
		if now[p] = true; f.logged[p] {
			continue
		}
		if f.refused++; f.refused <= maxRefusedLogged {
			f.log.Warn("route claim refused", "frontend", p.Frontend, "service", p.Service, "claim", p.Claim, "owner", p.Owner, "reason", p.Reason)
		}
	}
	f.logged = now
	if len(problems)+len(*f.problems.Load()) > 0 {
		f.problems.Store(&problems)
	}
}

// setFound renders with what is found now. hasHeard says that Consul has answered for more of
// the services since. The caller holds mu.
func (d *Daemon) setFound(found route.Found, hasHeard bool) {
	before := d.found
	found = found.After(before, time.Now())
	d.found = found
	if found.HasServicesOf(before) {
		if changes := d.finder.rules(d.cfg).Changes(found, before); len(changes) > 0 || hasHeard {
			d.setRoutes(changes, hasHeard)
		}
		return
	}
	d.finder.tracker.Pace.ServicesChanged(time.Now())
	cfg := d.whole(asStarted(d.cfg, d.started))
	r, err := newRendererWith(cfg, d.peers)
	if err != nil {
		d.finder.log.Error("haproxy.cfg cannot be rendered, keeping current routes", "error", err)
		d.found = before
		return
	}
	d.finder.log.Info("services and routes from Consul changed", "services", len(found.Services), "services_were", len(before.Services), "routes", len(found.Routes), "routes_were", len(before.Routes))
	d.catalog.SetBackends(shared(cfg)) // the loop plans with the shares, and sees the answers, of all that it has
	d.reconfigure(r, automatic(settings(cfg, r)))
	d.watchServices()
}

// setRoutes has only other routes, and with hasHeard again the services that had gone. The
// caller holds mu.
func (d *Daemon) setRoutes(changes []route.FoundChange, hasHeard bool) {
	set, tables := onlyRoutes(d.set), make(map[string]route.Table, len(d.set.Maps))
	if hasHeard && len(d.found.Gone) > 0 {
		set = automatic(d.set)
		set.Services = settings(d.whole(asStarted(d.cfg, d.started)), d.newest).Services
	}
	set.Maps = slices.Clone(d.set.Maps)
	for i := range set.Maps {
		m := &set.Maps[i]
		rerouted(m, d.cfg, d.found, changes)
		tables[m.Frontend] = m.Want
	}
	r := d.newest.WithRoutes(tables, d.found)
	set.Renderer = renderer{r}
	d.reconfigure(r, set)
}

// rerouted makes the routes of one frontend those that were found now. Those of the settings,
// which are before them, stay.
func rerouted(m *reconcile.RouteMap, cfg config.Config, found route.Found, changes []route.FoundChange) {
	own := 0
	if i := slices.IndexFunc(cfg.Frontends, func(f config.Frontend) bool { return f.Name == m.Frontend }); i >= 0 {
		own = len(cfg.Frontends[i].Routes)
	}
	lines, states := map[string]*route.Entry{}, map[string]*reconcile.RouteState{}
	for _, c := range changes {
		if c.Before != nil && c.Before.Frontend == m.Frontend {
			key := c.Before.Route("").Key()
			lines[key], states[key] = nil, nil
		}
		if c.Now == nil || c.Now.Frontend != m.Frontend {
			continue
		}
		if backend, has := cfg.RoutedBackend(found, c.Now.Service); has {
			r := c.Now.Route(backend)
			state := routeState(r, c.Now.Source)
			lines[r.Key()], states[r.Key()] = &route.Entry{Key: r.Key(), Value: r.Value()}, &state
		}
	}
	if len(lines) == 0 {
		return
	}
	m.Want = m.Want.With(lines)
	m.Routes = route.Patch(m.Routes, own, states, reconcile.RouteState.Key)
}

// automatic is settings that no operator has changed.
func automatic(set reconcile.Settings) reconcile.Settings {
	set.Automatic = true
	return set
}

// onlyRoutes is settings of which nothing else is about to be new.
func onlyRoutes(set reconcile.Settings) reconcile.Settings {
	set = automatic(set)
	set.OnlyRoutes = true
	return set
}

// asHeard is settings as far as is known what services claim. Of a service of which it is not,
// HAProxy keeps what that may have claimed, and its backend if it had gone: the sidecar before
// may have ended just after they came, and haproxy.cfg does not have them then.
func asHeard(set reconcile.Settings, unheard route.Unheard) reconcile.Settings {
	set.Unheard = nil
	if !unheard.IsEmpty() && slices.ContainsFunc(set.Maps, func(m reconcile.RouteMap) bool { return m.Keep != nil }) {
		names := make(map[string]string, len(set.Services))
		for _, s := range set.Services {
			names[s.Backend] = s.Name
		}
		set.Unheard = func(backend string) bool { return unheard.Has(cmp.Or(names[backend], backend)) }
		set.Services = slices.DeleteFunc(slices.Clone(set.Services), func(s plan.Service) bool { return s.Gone && unheard.Has(s.Name) })
		return set
	}
	set.Maps = slices.Clone(set.Maps)
	for i := range set.Maps {
		set.Maps[i].Keep = nil
	}
	return set
}

// reconfigure has the agent go on with other settings. The caller holds mu.
func (d *Daemon) reconfigure(r *render.Renderer, set reconcile.Settings) {
	set = asHeard(set, d.finder.tracker.Unheard)
	r, set = d.withPauses(r, set)
	d.agent.Reconfigure(set)
	set.Automatic, set.OnlyRoutes = false, false // they are of this once
	d.use(r, set)
}

// use notes the settings that the agent has. The caller holds mu, or is alone.
func (d *Daemon) use(r *render.Renderer, set reconcile.Settings) {
	d.newest, d.set = r, set
	services := set.Pauses.Backends
	d.pausable.Store(&services)
}

// foundBy is what is found by new settings, and the services that are to be watched besides
// theirs, by what Consul has said so far: a route or a service that leaves the settings and
// is claimed in Consul is there all the time. The caller holds mu.
func (d *Daemon) foundBy(cfg config.Config) (found route.Found, watch []string) {
	rules, snap := cfg.Rules(), d.source.Snapshot()
	tags, meta := rules.Prefixes()
	tagsWere, metaWere := d.cfg.Rules().Prefixes()
	if !d.finder.tracker.IsSettled || !slices.Equal(tags, tagsWere) || !slices.Equal(meta, metaWere) {
		return stillAllowed(cfg, d.found), d.finder.watched // other claims are known, or too few
	}
	named := slices.Clone(d.finder.watched)
	for _, s := range d.cfg.Services {
		if s.Name == s.Backend && rules.Takes(s.Name, tagClaims(snap.Service(s.Backend).Claims)) {
			named = append(named, s.Name)
		}
	}
	for i := range rules.Frontends {
		rules.Frontends[i].Left = d.cfg.RouteServices(rules.Frontends[i].Name)
	}
	watch, _ = rules.Watch(named, d.found)
	found, _ = route.Discover(rules, time.Now(), true, d.found, candidates(cfg, watch, snap, claimsOf))
	return found.After(d.found, time.Now()), watch
}

func tagClaims(claims []catalog.Claim) (tags []string) {
	for _, c := range claims {
		if c.Meta == "" {
			tags = append(tags, c.Text)
		}
	}
	return tags
}

// watchServices watches the services of the settings, those that were found, and those that
// may claim a route. The caller holds mu.
func (d *Daemon) watchServices() {
	if err := d.source.SetServices(d.watching()); err != nil {
		d.finder.log.Error("services from Consul cannot be watched", "error", err) // their names are checked
	}
}

// watching is the services that are to be watched. The caller holds mu.
func (d *Daemon) watching() []consul.Service {
	return watchedWith(d.cfg, d.found, d.finder.watched, ownListeners(d.cfg, d.newest, d.status.Addr()))
}

// whole is settings with what was found. The caller holds mu, or is alone.
func (d *Daemon) whole(cfg config.Config) config.Config { return cfg.With(d.found) }

// findOnce is what services claim now, for a command that runs once: their problems, after
// source has answered for the services of the settings.
func findOnce(ctx context.Context, cfg config.Config, found route.Found, source *consul.Source, own []consul.Listener, wait func(config.Config) error) ([]route.Problem, error) {
	rules := cfg.Rules()
	if len(rules.Frontends) == 0 {
		return nil, nil
	}
	named, err := source.NamesOnce(ctx, rules.Takes)
	if err != nil {
		return nil, err
	}
	services, problems := rules.Watch(named, found)
	all := withCandidates(cfg, found, services)
	if err := source.SetServices(watched(all, own)); err != nil {
		return nil, err
	}
	if err := wait(all); err != nil {
		return nil, err
	}
	_, refused := route.Discover(rules, time.Now(), true, found, candidates(cfg, services, source.Snapshot(), claimsOf))
	return append(problems, refused...), nil
}
