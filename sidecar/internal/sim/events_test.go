package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// kind is one kind of event.
type kind struct {
	name   string
	always bool // in every history
	do     func(*world)
	only   func(scenario) bool // nil: in any history
}

// kinds lists what can happen. Set in init, because the events use the world,
// and the world this list.
var kinds []kind

func init() {
	hasRoutes := func(s scenario) bool { return len(s.frontends) > 0 }
	hasRollouts := func(s scenario) bool { return s.rollouts }
	kinds = []kind{
		{"deploy", true, (*world).deploy, nil},
		{"start", true, func(w *world) { s := w.anyService(); w.begin(s, w.newID(s), w.upTo(2*time.Second)) }, nil},
		{"leave", true, func(w *world) { w.some((*node).leave) }, nil},
		{"requests", true, (*world).requests, nil},
		{"die", false, func(w *world) { w.some((*node).die) }, nil},
		{"mass", false, (*world).mass, nil},
		{"flap", false, func(w *world) { w.some(w.flap) }, nil},
		{"hang", false, func(w *world) { w.some(w.hang) }, nil},
		{"maintenance", false, func(w *world) { w.some(w.maintenance) }, nil},
		{"agent", false, func(w *world) { w.some(w.agentEvent) }, nil},
		{"reweight", false, func(w *world) { w.some(w.reweight) }, nil},
		{"deregister", false, func(w *world) { w.some(w.deregister) }, nil},
		{"move", false, func(w *world) { w.some(w.move) }, nil},
		{"backup", false, func(w *world) { w.some(w.becomeBackup) }, nil},
		{"consul-away", false, (*world).consulAway, nil},
		{"consul-loss", false, (*world).consulLoss, nil},
		{"sidecar-crash", false, (*world).crash, nil},
		{"sidecar-stop", false, (*world).stopSidecar, nil},
		{"haproxy-restart", false, (*world).restartProxy, nil},
		{"haproxy-reload", false, (*world).reloadProxy, nil},
		{"upgrade", false, (*world).upgrade, nil},
		{"hands", false, (*world).manualChange, nil},
		{"trouble", false, (*world).getTrouble, nil},
		{"settings", false, (*world).newSettings, nil},
		{"file", false, (*world).foreignFile, nil},
		{"tags", false, (*world).newTags, hasRoutes},
		{"claims", false, func(w *world) { w.some(w.reclaim) }, hasRoutes},
		{"routes", false, (*world).operatorRoutes, hasRoutes},
		{"map", false, (*world).manualMap, hasRoutes},
		{"rollout", false, (*world).newRollout, hasRollouts},
		{"rollouts-away", false, (*world).rolloutsAway, hasRollouts},
	}
}

// populate makes the world as it is before the history: some nodes, an HAProxy
// that runs or does not yet, a sidecar.
func (w *world) populate() {
	w.disk.renderer = &renderer{w: w, marker: plan.Marker{Template: "aa", Services: digest(len(w.set.services)), Settings: "01"}}
	w.populateRoutes()
	for _, s := range w.set.services {
		for range w.eventRNG.IntN(6) {
			w.begin(s.Name, w.newID(s.Name), w.upTo(500*time.Millisecond))
		}
	}
	if w.maybe(0.5) {
		// A file that a sidecar left, and an HAProxy that runs it.
		d := plan.Desired{Marker: w.disk.renderer.marker, Services: w.set.services, Rotation: w.set.rotation}
		var known []catalog.Service
		for _, s := range w.set.services {
			known = append(known, w.consul.answer(s.Name).Service)
		}
		p := plan.Compute(d, plan.Observed{Caps: w.proxy.version()}, catalog.NewSnapshot(known...))
		w.mu.Unlock()
		r, _ := w.withRoutes(route.Found{Services: w.discovered()})
		text, _ := r.Render(p.File)
		w.mu.Lock()
		w.disk.put(text)
	}
	w.initSystem()
	w.after(w.upTo(time.Second), w.startSidecar)
	w.after(w.upTo(w.set.gap), func() { w.event(1) })
	w.arrive()
	w.askAgents()
	w.askForReloads()
}

func digest(n int) string { return fmt.Sprintf("%02x", n) }

// initSystem starts HAProxy again and again until it runs, as systemd does.
func (w *world) initSystem() {
	if !w.proxy.running && !w.proxy.start() {
		w.after(500*time.Millisecond, w.initSystem)
	}
}

// arrive lets requests come in.
func (w *world) arrive() {
	if w.healed {
		return
	}
	s := w.set.services[w.callRNG.IntN(len(w.set.services))]
	w.proxy.request(s.Backend, w.duration())
	w.after(time.Duration(w.callRNG.Int64N(int64(2*time.Second))), w.arrive)
}

// duration is how long a request takes: most are short, a few are long.
func (w *world) duration() time.Duration {
	switch roll := w.callRNG.IntN(10); {
	case roll < 6:
		return time.Duration(w.callRNG.Int64N(int64(200 * time.Millisecond)))
	case roll < 9:
		return time.Duration(w.callRNG.Int64N(int64(5 * time.Second)))
	}
	return time.Duration(w.callRNG.Int64N(int64(50 * time.Second)))
}

// live runs the events.
func (w *world) live() {
	limit := w.set.events
	if w.Events >= 0 {
		limit = min(limit, w.Events)
	}
	w.Events = limit
	w.runUntil(10*time.Minute, func() bool { return w.res.Events >= limit })
}

// event lets the nth thing happen, and plans the one after it. Each draws from
// dice of its own, so that leaving one out changes the others as little as can
// be.
func (w *world) event(n int) {
	if w.healed || n > w.Events {
		return
	}
	w.chance.Seed(w.Seed, uint64(n))
	total := 0
	for _, k := range kinds {
		total += w.set.weights[k.name]
	}
	roll := w.eventRNG.IntN(total)
	for _, k := range kinds {
		if roll -= w.set.weights[k.name]; roll >= 0 {
			continue
		}
		if slices.Contains(w.Without, k.name) {
			w.note("event %d: no %s", n, k.name)
		} else {
			w.note("event %d: %s", n, k.name)
			w.disturb()
			k.do(w)
		}
		break
	}
	w.res.Events = n
	gap := w.upTo(w.set.gap)
	if w.maybe(0.3) {
		gap /= 100 // in the middle of what the last one has begun
	}
	w.after(gap, func() { w.event(n + 1) })
}

// disturb: something has changed, so who has found nothing to do may have.
func (w *world) disturb() {
	w.changed = w.now()
	if w.sidecar != nil {
		w.sidecar.clean = false
	}
}

func (w *world) anyService() string { return w.set.services[w.eventRNG.IntN(len(w.set.services))].Name }

// some does something to one of the nodes.
func (w *world) some(do func(*node)) {
	if all := w.living(w.anyService()); len(all) > 0 {
		do(all[w.eventRNG.IntN(len(all))])
	}
}

const maxDeploy = 10

// deploy starts new nodes; the old leave once those are registered.
func (w *world) deploy() { w.deployOf(w.anyService()) }

func (w *world) deployOf(s string) {
	old := w.living(s)
	if len(old) > maxDeploy {
		old = old[:maxDeploy] // a fleet that doubles each time takes long, and shows nothing new
	}
	for range max(1, len(old)) {
		w.begin(s, w.newID(s), w.upTo(time.Second))
	}
	wait := w.between(500*time.Millisecond, 4*time.Second)
	step := w.upTo(3 * time.Second)
	for i, n := range old {
		w.after(wait+time.Duration(i)*step, func() {
			if !w.healed {
				n.leave()
			}
		})
	}
}

func (w *world) requests() {
	for range 2 + w.eventRNG.IntN(8) {
		s := w.anyService()
		w.after(w.upTo(time.Second), func() { w.proxy.request(w.service(s).Backend, w.duration()) })
	}
}

// mass ends several at once.
func (w *world) mass() {
	all := w.living(w.anyService())
	for _, n := range all {
		if w.maybe(0.7) {
			n.die()
		}
	}
}

// flap: Consul's check fails for a while, and the node serves.
func (w *world) flap(n *node) {
	to := pick(w.eventRNG, catalog.Critical, catalog.Critical, catalog.Warning)
	w.consul.change(n, to.String()+":", func(r *registration) { r.check = to })
	w.after(w.upTo(5*time.Second), func() {
		w.consul.change(n, "passing:", func(r *registration) { r.check = catalog.Passing })
	})
}

// hang: the node does not answer for a while, and Consul does not notice.
func (w *world) hang(n *node) {
	w.note("node %s hangs", n)
	n.listening, n.orderly = false, false
	w.after(w.upTo(8*time.Second), func() {
		if n.alive {
			w.note("node %s answers again", n)
			n.listening = true
		}
	})
}

func (w *world) maintenance(n *node) {
	w.consul.change(n, "maintenance:", func(r *registration) { r.maintenance = true })
	if w.maybe(0.8) {
		w.after(w.upTo(20*time.Second), func() {
			w.consul.change(n, "no maintenance:", func(r *registration) { r.maintenance = false })
		})
	}
}

func (w *world) reweight(n *node) {
	n.weight = w.eventRNG.IntN(4)
	if w.maybe(0.3) {
		n.maxConn = 10 * w.eventRNG.IntN(3)
	}
	if w.maybe(0.3) {
		n.agentPort = pick(w.eventRNG, 0, 5001, 5002)
	}
	w.consul.change(n, fmt.Sprintf("weight %d, maxconn %d, agent port %d:", n.weight, n.maxConn, n.agentPort), func(r *registration) {
		r.inst.Weight, r.inst.MaxConn, r.inst.AgentPort = n.weight, n.maxConn, n.agentPort
	})
}

// deregister without a word: it dies soon after, or registers again.
func (w *world) deregister(n *node) {
	n.orderly = false
	w.consul.deregister(n)
	if w.maybe(0.5) {
		w.after(w.upTo(3*time.Second), n.die)
		return
	}
	w.after(w.upTo(10*time.Second), func() { w.again(n) })
}

// again is the registrator's watchdog.
func (w *world) again(n *node) {
	if r := w.consul.services[n.service][n.id]; n.alive && !n.leaving && r == nil {
		w.consul.register(n, catalog.Passing)
	}
}

// move: a container is made again, with another address under the same name.
func (w *world) move(n *node) {
	n.die()
	next := w.newNode(n.service, n.id, w.fresh())
	w.after(w.upTo(2*time.Second), func() {
		if next.alive && !next.leaving {
			next.listening = true
			w.consul.register(next, catalog.Passing)
		}
	})
}

func (w *world) becomeBackup(n *node) {
	n.backup = !n.backup
	w.consul.change(n, fmt.Sprintf("backup %v:", n.backup), func(r *registration) { r.inst.Backup = n.backup })
}

func (w *world) consulAway() {
	w.consul.away()
	w.after(w.upTo(15*time.Second), w.consul.back)
}

// consulLoss: those that live register again, as their watchdogs find out. Where a
// whole host was restarted, HAProxy is away meanwhile.
func (w *world) consulLoss() {
	w.consul.lose()
	for _, n := range w.nodes {
		if n.alive {
			w.after(w.between(100*time.Millisecond, 8*time.Second), func() { w.again(n) })
		}
	}
	if w.maybe(0.2) {
		w.restartProxy()
	}
}

// crash ends the sidecar at once or at some point of what it does next.
func (w *world) crash() {
	s := w.sidecar
	if s != nil {
		if s.fuse = w.eventRNG.IntN(8); s.fuse == 0 {
			s.kill()
		}
		w.after(3*time.Second, func() {
			if s == w.sidecar {
				s.kill()
			}
		})
	}
	w.after(w.between(3*time.Second, 10*time.Second), w.startSidecar)
	w.after(w.upTo(3*time.Second), w.startSidecar)
}

func (w *world) stopSidecar() {
	if s := w.sidecar; s != nil {
		s.terminate()
	}
	w.after(w.upTo(5*time.Second), w.startSidecar)
	w.after(10*time.Second, w.startSidecar)
}

func (w *world) restartProxy() {
	w.proxy.stop()
	w.after(w.upTo(4*time.Second), w.initSystem)
}

func (w *world) reloadProxy() {
	if w.proxy.running {
		w.proxy.foreign = w.now()
		if err := w.proxy.reload(); err != nil {
			w.note("a foreign reload fails: %v", err)
		}
	}
}

// upgrade, or downgrade: another HAProxy starts from the same file.
func (w *world) upgrade() {
	w.proxy.stop()
	w.proxy.dynamic = !w.proxy.dynamic
	w.after(w.upTo(2*time.Second), w.initSystem)
}

// manualChange: an operator changes HAProxy over its socket.
func (w *world) manualChange() {
	if !w.proxy.running {
		return
	}
	b := w.proxy.worker.backends[w.service(w.anyService()).Backend]
	if b == nil || len(b.servers) == 0 {
		return
	}
	s := b.servers[w.eventRNG.IntN(len(b.servers))]
	s.foreign = max(s.foreign, w.now()) // an address that it has changed may still be to come
	if n := w.where[s.Addr]; n != nil {
		n.orderly = false // who changes its server by hand answers for it
	}
	delete(w.left, place{w.serviceOf(b.name), s.Addr})
	w.said[place{w.serviceOf(b.name), s.Addr}] = true // it may become ready
	was := fmt.Sprintf("%s@%s %s w%d checked %v", s.Name, s.Addr, s.Admin, s.Weight, s.Checked)
	st := plan.Step{Backend: b.name, Server: s.Name}
	switch w.eventRNG.IntN(6) {
	case 0:
		st.Kind = plan.SetDrain
	case 1:
		st.Kind = plan.SetMaint
	case 2:
		st.Kind = plan.SetReady
	case 3:
		st.Kind, st.Weight = plan.SetWeight, w.eventRNG.IntN(4)
	case 4:
		st.Kind, st.Addr = plan.SetAddr, addrOf(w.eventRNG.IntN(8))
		w.said[place{w.serviceOf(b.name), st.Addr}] = true
		delete(w.left, place{w.serviceOf(b.name), st.Addr})
	case 5:
		s.Checked = false
		st.Kind = plan.EnableHealth
	}
	if st.Kind != plan.EnableHealth {
		_ = w.proxy.do(st)
	}
	if st.Kind == plan.SetAddr {
		s.foreign += addrDelay // when it shows, at the latest: a look before that does not tell
	}
	w.note("a foreign program changes %s/%s: %s%s", b.name, was, st.Kind, words(st))
}

// getTrouble makes calls go wrong for a while.
func (w *world) getTrouble() {
	t := trouble{}
	for _, p := range []*float64{&t.lost, &t.dropped, &t.refused, &t.ignored, &t.unread, &t.slow, &t.uncount, &t.write, &t.reload} {
		if w.maybe(0.3) {
			*p = pick(w.eventRNG, 0.05, 0.3, 0.9)
		}
	}
	w.trouble = t
	w.note("trouble: %+v", t)
	w.after(w.upTo(12*time.Second), func() {
		w.trouble = trouble{}
		w.note("no trouble any more")
	})
}

// newSettings: an operator changes the settings, and may mend what is wrong
// with them only later.
func (w *world) newSettings() {
	r := *w.disk.renderer
	r.marker.Settings = digest(w.res.Events + 2)
	if w.maybe(0.3) {
		r.marker.Template = digest(w.res.Events + 100)
	}
	r.invalid = w.maybe(0.2)
	w.disk.renderer = &r
	w.note("settings %s, invalid %v", r.marker, r.invalid)
	if len(w.set.frontends) > 0 && w.maybe(0.3) {
		w.drawOperatorRoute()
	}
	w.reconfigure()
	if r.invalid {
		w.after(w.upTo(10*time.Second), w.validSettings)
	}
}

func (w *world) validSettings() {
	if !w.disk.renderer.invalid {
		return
	}
	r := *w.disk.renderer
	r.marker.Settings, r.invalid = digest(w.res.Events+200), false
	w.disk.renderer = &r
	w.note("settings %s, valid again", r.marker)
	w.reconfigure()
}

func (w *world) reconfigure() {
	if s := w.sidecar; s != nil {
		was := s.hidden
		if s.take(s.foundBy()); s.hidden != was {
			s.hiddenAt = w.now()
		}
		s.need = need{}
		s.reloaded, s.reset, s.ordered, s.clean = 0, true, w.now(), false
		s.agent.Reconfigure(s.settings)
		s.look()
	}
}

// foreignFile: another program writes haproxy.cfg, an older one of ours or one
// that is not.
func (w *world) foreignFile() {
	var texts []string
	for text, c := range w.disk.known {
		if !c.invalid {
			texts = append(texts, text)
		}
	}
	slices.Sort(texts)
	text := "not ours"
	if len(texts) > 0 && w.maybe(0.7) {
		text = texts[w.eventRNG.IntN(len(texts))]
	}
	w.disk.text, w.disk.foreign = []byte(text), true
	w.note("a foreign program writes the file: %s", w.disk)
}
