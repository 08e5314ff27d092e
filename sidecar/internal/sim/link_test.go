package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// link is the way to HAProxy of one sidecar: its reconcile.HAProxy.
type link struct{ *sidecar }

var _ reconcile.HAProxy = link{}

var (
	errTimeout = errors.New("i/o timeout")
	errBroken  = errors.New("not sent: connection to HAProxy lost at an earlier step")
	errEarlier = errors.New("not sent: an earlier step on this server failed")
)

// comparing is how long a comparison takes at least.
const comparing = 700*time.Microsecond + 333*time.Nanosecond

// Compare reads it beside the loop. The loop takes it once its pass is over.
func (l link) Compare(ctx context.Context, backends []string) (plan.Observed, error) {
	w := l.w
	began := w.now()
	chance := rand.New(rand.NewPCG(w.Seed, uint64(began)<<1)) // not the loop's luck
	time.Sleep(comparing + time.Duration(chance.Int64N(int64(2*w.set.latency))).Truncate(time.Microsecond))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case l.dead || l.ended:
		return plan.Observed{}, errDead
	case ctx.Err() != nil:
		return plan.Observed{}, ctx.Err()
	case !w.proxy.running:
		l.failed = w.now()
		return plan.Observed{}, fmt.Errorf("dial: %w", plan.ErrNotRunning)
	case chance.Float64() < w.trouble.unread:
		l.failed = w.now()
		return plan.Observed{}, errTimeout
	}
	o := w.proxy.observe(backends, chance.Float64() < w.trouble.uncount)
	l.compared = func() { l.takeCompared(o, backends, began) }
	l.comparedAt, l.comparedOf = w.now(), map[string][]*server{}
	for _, name := range backends {
		if b := w.proxy.worker.backends[name]; b != nil {
			l.comparedOf[name] = b.servers
		}
	}
	if !l.inPass {
		l.endPass()
	}
	return o, nil
}

// takeCompared notes what the loop takes from a comparison that began then.
func (l link) takeCompared(o plan.Observed, asked []string, began time.Duration) {
	if o.PID != l.saw.PID || o.Marker != l.saw.Marker || l.saw.Backends == nil || !l.saw.Running {
		return
	}
	asked = slices.DeleteFunc(slices.Clone(asked), func(name string) bool {
		// After a write the loop reads what is otherwise in the file, a large service in
		// its next turn.
		return l.touched[name] > began || l.wrote[name] > began && l.isLarge(name)
	})
	for _, name := range asked {
		l.unplanned[name] = l.isLarge(name)
	}
	saw := l.saw
	l.take(o, asked, l.comparedOf, l.comparedAt)
	saw.Backends = l.saw.Backends
	l.saw = saw
	if l.w.needsReload(l.sidecar) {
		l.neededAt = l.w.now()
	}
	l.w.note("sidecar: has compared %s", strings.Join(asked, " "))
}

// beginPass notes when the loop's pass began: what ends meanwhile it takes after it.
func (s *sidecar) beginPass() {
	if !s.inPass {
		s.inPass, s.passed, s.rounds = true, s.w.now(), 0
	}
}

// endPass lets the loop take what has come meanwhile.
func (s *sidecar) endPass() {
	s.inPass = false
	clear(s.large)
	if take := s.compared; take != nil {
		s.compared = nil
		take()
	}
}

// Observe reads what HAProxy runs.
func (l link) Observe(ctx context.Context, backends []string) (plan.Observed, error) {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	l.beginPass()
	l.checkOwed("Observe")
	if err := l.begin(ctx); err != nil {
		l.done()
		return plan.Observed{}, err
	}
	defer l.done()
	l.rounds++
	prompt := l.looks != 0
	l.looks = 0
	switch {
	case !w.proxy.running:
		l.failed = w.now()
		l.proxyEnded()
		return plan.Observed{}, fmt.Errorf("dial: %w", plan.ErrNotRunning)
	case l.fails(w.trouble.unread):
		return plan.Observed{}, errTimeout
	}
	l.away = false
	o := w.proxy.observe(backends, l.fails(w.trouble.uncount))
	runs := map[string][]*server{}
	for _, name := range backends {
		if b := w.proxy.worker.backends[name]; b != nil {
			runs[name] = b.servers
		}
		l.touched[name] = w.now()
		l.looked[name] = l.toldOf(name)
		delete(l.turnDue, name)
		delete(l.unplanned, name)
	}
	l.take(o, backends, runs, w.now())
	if w.needsReload(l.sidecar) {
		l.neededAt = w.now()
	}
	w.note("sidecar: looks at %s", strings.Join(backends, " "))
	if prompt {
		l.owes = l.mustAct(backends)
	}
	return o, nil
}

// proxyEnded notes who took traffic when HAProxy ended.
func (s *sidecar) proxyEnded() {
	if s.away {
		return
	}
	s.away, s.filed = true, map[string][]plan.Server{}
	if s.saw.Backends == nil { // it has not seen HAProxy run, and goes by the file that it began with
		for _, b := range s.began.backends {
			for _, srv := range b.Servers {
				if !srv.Disabled && srv.Weight > 0 {
					s.filed[b.Backend] = append(s.filed[b.Backend], plan.Server{Name: srv.Name, Addr: srv.Addr, Backup: srv.Backup})
				}
			}
		}
	}
	for name, b := range s.saw.Backends {
		for _, srv := range b.Servers {
			if available(srv) {
				s.filed[name] = append(s.filed[name], srv)
			}
		}
	}
}

// take notes what the sidecar has seen. What it was given is its own from here.
func (l link) take(o plan.Observed, asked []string, runs map[string][]*server, at time.Duration) {
	if o.PID != l.saw.PID {
		clear(l.sawAt)
	}
	if o.PID != l.saw.PID || l.saw.Backends == nil {
		l.saw.Backends = map[string]plan.Backend{}
		l.need = need{}
	}
	if o.Marker != l.saw.Marker || o.Caps != l.saw.Caps || o.Running != l.saw.Running {
		l.need = need{}
	}
	backends := l.saw.Backends
	for _, name := range asked {
		was, existed := backends[name]
		b, exists := o.Backends[name]
		for _, srv := range runs[name] {
			l.sawAt[srv] = at
		}
		if exists && existed && b.Unpublished == was.Unpublished && slices.Equal(b.Servers, was.Servers) {
			continue
		}
		l.need = need{}
		delete(backends, name)
		if exists {
			backends[name] = plan.Backend{Servers: slices.Clone(b.Servers), Unpublished: b.Unpublished}
		}
	}
	l.saw = o
	l.saw.Backends = backends
	for _, name := range asked {
		if name != plan.RotationBackend {
			l.noteAbsent(name)
		}
	}
}

// Apply takes the steps one after another. What the adapter's contract says of
// errors holds here too: no later step of a server of which one has failed, and
// nothing after the connection broke.
func (l link) Apply(ctx context.Context, steps []plan.Step) []error {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	l.owes = false
	l.beginPass()
	l.calling++
	defer l.done()
	if w.Applied != nil {
		w.Applied(steps)
	}
	defer func() {
		for _, st := range steps {
			l.touched[st.Backend] = w.now()
		}
	}()
	w.checkBatch(l.sidecar, steps)
	errs := make([]error, len(steps))
	failed := map[string]bool{}
	var broken error
	for i, st := range steps {
		key := st.Backend + "/" + st.Server
		switch {
		case broken != nil:
			errs[i] = broken
			continue
		case failed[key]:
			errs[i] = errEarlier
			continue
		}
		errs[i], broken = l.send(ctx, st)
		failed[key] = errs[i] != nil
		if errs[i] != nil {
			l.failed = w.now()
		}
		w.note("sidecar: %s %s%s (%s): %s", st.Kind, key, words(st), st.Reason, orOK(errs[i]))
	}
	return errs
}

// send sends one step. broken says that no other can be sent.
func (l link) send(ctx context.Context, st plan.Step) (err, broken error) {
	w := l.w
	if err := l.pass(ctx, l.latency()); err != nil {
		return err, err
	}
	l.steps++
	w.changed = w.now()
	w.res.Steps++
	switch {
	case !w.proxy.running:
		return plan.ErrNotRunning, plan.ErrNotRunning
	case l.fails(w.trouble.dropped):
		return errTimeout, errBroken
	case l.fails(w.trouble.refused):
		return errInternal, nil
	case st.Kind == plan.SetAddr && l.fails(w.trouble.ignored):
		return nil, nil
	}
	w.checkStep(l.sidecar, st)
	if st.Kind == plan.SetReady {
		l.readies(st)
	}
	if err := w.proxy.do(st); err != nil {
		if errors.Is(err, plan.ErrRefused) {
			l.refuses[st.Backend] = l.saw.Marker
		}
		if errors.Is(err, errBusy) {
			return err, l.pass(ctx, 500*time.Millisecond)
		}
		return err, nil
	}
	l.did(st)
	w.settle()
	if st.Kind == plan.Add {
		if err := l.addReady(ctx, st); err != nil {
			return err, errBroken
		}
	}
	if l.fails(w.trouble.lost) {
		return errTimeout, errBroken
	}
	return nil, nil
}

// readies: where HAProxy was reloaded since it was looked at, the server that is made ready
// may have another address.
func (l link) readies(st plan.Step) {
	p := l.w.proxy
	if runs := p.find(st.Backend, st.Server); runs != nil && p.dynamic && p.pid != l.saw.PID {
		runs.foreign = l.w.now()
	}
}

// addReady is the second half of an Add.
func (l link) addReady(ctx context.Context, st plan.Step) error {
	if err := l.pass(ctx, l.latency()); err != nil {
		return err
	}
	if !l.w.proxy.running || l.fails(l.w.trouble.dropped) {
		return errTimeout
	}
	ready := st
	ready.Kind = plan.SetReady
	l.readies(ready)
	if err := l.w.proxy.do(ready); err != nil {
		return err
	}
	l.did(ready)
	l.w.settle()
	return nil
}

// enabledAgent is what HAProxy has made of a server whose agent was enabled.
func enabledAgent(s *plan.Server, st plan.Step) {
	s.Agent, s.Weight = plan.AgentOn, s.ConfigWeight
	if st.AgentPort != 0 {
		s.AgentPort = st.AgentPort
	}
}

// did changes what the sidecar has seen by what it has done.
func (l link) did(st plan.Step) {
	if isWhole(st.Kind) {
		l.didWhole(st)
		return
	}
	b := l.saw.Backends[st.Backend]
	if st.Kind == plan.Add {
		b.Servers = append(b.Servers, plan.Server{Name: st.Server, Addr: st.Addr, Admin: plan.Maint, Weight: st.Weight, ConfigWeight: st.Weight, MaxConn: st.MaxConn, Backup: st.Backup})
		l.saw.Backends[st.Backend] = b
		return
	}
	for i := range b.Servers {
		s := &b.Servers[i]
		if s.Name != st.Server {
			continue
		}
		switch st.Kind {
		case plan.SetReady:
			if s.Admin == plan.Maint {
				s.SinceChange = 0
			}
			s.Up = s.Admin == plan.Drain && s.Up || s.Admin == plan.Maint && !st.Prove
			s.Admin = plan.Ready
			if st.Agent {
				enabledAgent(s, st)
			}
		case plan.SetDrain:
			s.Admin = plan.Drain
		case plan.SetMaint:
			s.Admin, s.Up = plan.Maint, false
		case plan.SetWeight:
			if s.Weight = st.Weight; st.Percent {
				s.Weight = s.ConfigWeight * st.Weight / 100
			}
		case plan.EnableAgent:
			enabledAgent(s, st)
		case plan.DisableAgent:
			s.Agent = plan.AgentOff
		case plan.SetMaxConn:
			s.MaxConn = st.MaxConn
		case plan.SetAddr:
			s.Addr = st.Addr
		case plan.Delete:
			b.Servers = append(b.Servers[:i], b.Servers[i+1:]...)
			l.saw.Backends[st.Backend] = b
			return
		case plan.Add, plan.EnableHealth, plan.Shutdown, plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
		}
	}
}

// Reload makes HAProxy load the file, beside the loop.
func (l link) Reload(ctx context.Context, want plan.Marker) error {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.dead || l.ended {
		return errDead
	}
	l.beside++
	defer func() { l.beside-- }()
	w.checkReload(l.sidecar)
	// New settings that it has not taken yet allow another.
	l.reset = want != l.settings.Renderer.Marker() || l.ordered > 0 && l.ordered >= l.writeBegan-2*counting
	l.reloads++
	w.res.Reloads++
	began := w.now()
	err := l.reload(ctx, want)
	if err != nil {
		l.failed = w.now()
	} else {
		l.reloadBegan = began
	}
	l.reloadEnded = w.now()
	if l.reloaded = w.now(); l.reset {
		l.reloaded = 0
	}
	w.note("sidecar: reload: %s", orOK(err))
	return err
}

func (l link) reload(ctx context.Context, want plan.Marker) error {
	w := l.w
	if err := l.elapse(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	switch {
	case !w.proxy.running:
		return plan.ErrNotRunning
	case l.dice.Float64() < w.trouble.reload:
		return errors.New("cannot bind")
	}
	if err := w.proxy.reload(); err != nil {
		return err
	}
	w.settle()
	if err := l.elapse(ctx, time.Millisecond); err != nil {
		return err
	}
	switch {
	case l.dice.Float64() < w.trouble.lost:
		return errTimeout
	case !w.proxy.running:
		return plan.ErrNotRunning
	case w.proxy.worker.marker != want:
		return fmt.Errorf("the new worker runs %s", w.proxy.worker.marker)
	}
	return nil
}

// counting is how long it takes to count the old workers, always. Two may count at
// the same time, so chance is drawn from the time.
const counting = 500*time.Microsecond + 555*time.Nanosecond

// OldWorkers counts them, beside the loop.
func (l link) OldWorkers(ctx context.Context) (int, error) {
	time.Sleep(counting)
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.dead || l.ended {
		return 0, errDead
	}
	if rand.New(rand.NewPCG(w.Seed, uint64(w.now()))).Float64() < w.trouble.uncount {
		l.oldSaw = 0
		return 0, errTimeout
	}
	l.oldSaw = len(w.proxy.old)
	return l.oldSaw, ctx.Err()
}

// Capabilities is what the program on disk can do.
func (l link) Capabilities(context.Context) plan.Capabilities {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.proxy.version()
}

func words(st plan.Step) string {
	switch st.Kind {
	case plan.Add, plan.SetAddr:
		return "@" + st.Addr.String()
	case plan.SetWeight:
		return fmt.Sprintf(" %d", st.Weight)
	case plan.SetMaxConn:
		return fmt.Sprintf(" %d", st.MaxConn)
	case plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent, plan.Shutdown,
		plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
	}
	return ""
}

func orOK(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}
