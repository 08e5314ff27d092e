package reconcile_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// fakeHAProxy is an HAProxy of plain values with a clock: steps are taken as by
// the real one, checks pass after checkTime, and it loads what is in the file.
type fakeHAProxy struct {
	mu   sync.Mutex
	file *fakeFile

	running     bool
	caps        plan.Capabilities
	pid         int
	marker      plan.Marker
	backends    map[string][]*fakeServer
	unpublished map[string]bool         // backends
	nodes       map[netip.AddrPort]bool // answers the check there; absent: yes
	check       plan.Check              // the last of a server that is down
	old         int                     // workers
	memory      int64                   // that they take

	// What goes wrong, where it is set.
	fail         func(plan.Step) error // the step is refused with it
	swallow      func(plan.Step) bool  // the step is taken, and nothing comes of it
	addrDelay    time.Duration         // an address shows only then, as since 2.9
	failLoad     func(content []byte) error
	loseLoad     string        // a backend that no reload brings
	lieLoad      bool          // Reload says that it has, and has not
	holdLoad     chan struct{} // a reload takes until this is closed
	onLoad       func()
	observeTakes time.Duration
	holdCompare  chan struct{}                     // a comparison takes until this is closed
	compares     func(plan.Observed) plan.Observed // what it reads instead
	unread       error
	onApply      func(ctx context.Context)

	sent     []string // each step, with its error
	reloads  []time.Time
	observed [][]string // the backends of each Observe
}

const checkTime = 100 * time.Millisecond

type fakeServer struct {
	plan.Server
	changed time.Time // the last change of state
	proven  time.Time // when its check passes, if the node answers
	next    netip.AddrPort
	nextAt  time.Time
	drains  bool // what its agent says at once, as soon as it is asked
}

var _ reconcile.HAProxy = (*fakeHAProxy)(nil)

func newFakeHAProxy(dynamic bool, file *fakeFile) *fakeHAProxy {
	h := &fakeHAProxy{file: file, caps: plan.Capabilities{Version: "2.6.12"}, nodes: map[netip.AddrPort]bool{}, pid: 100}
	if dynamic {
		h.caps = plan.Capabilities{Version: "3.2.26", Dynamic: true}
	}
	return h
}

// start is what an init system does: HAProxy runs what the file has.
func (h *fakeHAProxy) start() {
	content, _ := h.file.Read()
	h.startWith(content)
}

// startWith starts it with another file's content.
func (h *fakeHAProxy) startWith(content []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = true
	h.load(content)
}

func (h *fakeHAProxy) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running, h.backends = false, nil
}

func (h *fakeHAProxy) load(content []byte) {
	var c fakeContent
	if err := json.Unmarshal(content, &c); err != nil {
		panic(fmt.Sprintf("HAProxy was to load %q: %v", content, err))
	}
	h.pid++
	h.marker = c.Marker
	h.backends, h.unpublished = map[string][]*fakeServer{}, map[string]bool{}
	for _, b := range c.Backends {
		servers := []*fakeServer{}
		for n, f := range b.Servers {
			s := &fakeServer{changed: time.Now(), Server: plan.Server{
				ID: n + 1, Name: f.Name, Addr: f.Addr, Weight: f.Weight, MaxConn: f.MaxConn, Backup: f.Backup, Checked: true, Up: !f.Disabled,
			}}
			if f.Disabled {
				s.Admin = plan.Maint
			}
			servers = append(servers, s)
		}
		if b.Backend != h.loseLoad {
			h.backends[b.Backend] = servers
		}
	}
}

func (h *fakeHAProxy) Observe(ctx context.Context, backends []string) (plan.Observed, error) {
	h.mu.Lock()
	takes := h.observeTakes
	h.mu.Unlock()
	if !readsServices(backends) {
		takes = 0 // it is the servers that take long
	}
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return plan.Observed{}, ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observed = append(h.observed, backends)
	if !h.running {
		return plan.Observed{}, fmt.Errorf("dial: %w", plan.ErrNotRunning)
	}
	if h.unread != nil {
		return plan.Observed{}, h.unread
	}
	o := plan.Observed{Running: true, Caps: h.caps, PID: h.pid, Marker: h.marker, Backends: map[string]plan.Backend{}}
	for _, name := range backends {
		servers, exists := h.backends[name]
		if !exists {
			continue
		}
		b := plan.Backend{Unpublished: h.unpublished[name]}
		for _, s := range servers {
			s.tick(h)
			b.Servers = append(b.Servers, s.Server)
		}
		slices.SortFunc(b.Servers, func(x, y plan.Server) int { return cmp.Compare(x.ID, y.ID) })
		o.Backends[name] = b
	}
	return o, nil
}

func readsServices(backends []string) bool {
	return slices.ContainsFunc(backends, func(name string) bool { return name != plan.RotationBackend })
}

func (h *fakeHAProxy) Compare(ctx context.Context, backends []string) (plan.Observed, error) {
	h.mu.Lock()
	hold := h.holdCompare
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return plan.Observed{}, ctx.Err()
		}
	}
	o, err := h.Observe(ctx, backends)
	if h.compares != nil && err == nil {
		o = h.compares(o)
	}
	return o, err
}

// tick brings a server to the present.
func (s *fakeServer) tick(h *fakeHAProxy) {
	now := time.Now()
	if s.next.IsValid() && !now.Before(s.nextAt) {
		s.Addr, s.next = s.next, netip.AddrPort{}
	}
	answers, told := h.nodes[s.Addr]
	up := s.Admin != plan.Maint && (!s.Checked || !now.Before(s.proven) && (answers || !told))
	if up != s.Up {
		s.Up, s.changed = up, now
	}
	s.SinceChange, s.Check = now.Sub(s.changed).Truncate(time.Second), plan.Check{}
	if !up && s.Admin == plan.Ready {
		s.Check = h.check
	}
}

func (h *fakeHAProxy) Apply(ctx context.Context, steps []plan.Step) []error {
	h.mu.Lock()
	meanwhile := h.onApply
	h.mu.Unlock()
	if meanwhile != nil {
		meanwhile(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := make([]error, len(steps))
	for i, st := range steps {
		line := string(st.Kind) + " " + cmp.Or(st.Server, st.Backend)
		errs[i] = h.apply(st)
		if errs[i] != nil {
			line += ": " + errs[i].Error()
		}
		h.sent = append(h.sent, line)
	}
	return errs
}

func (h *fakeHAProxy) apply(st plan.Step) error {
	switch {
	case !h.running:
		return plan.ErrNotRunning
	case h.fail != nil && h.fail(st) != nil:
		return h.fail(st)
	case h.swallow != nil && h.swallow(st):
		return nil
	}
	if st.Server == "" {
		return h.applyWhole(st)
	}
	servers := h.backends[st.Backend]
	i := slices.IndexFunc(servers, func(s *fakeServer) bool { return s.Name == st.Server })
	now := time.Now()
	if st.Kind == plan.Add {
		if i >= 0 || !h.caps.Dynamic {
			return errors.New("cannot add")
		}
		h.backends[st.Backend] = append(servers, &fakeServer{changed: now, proven: now.Add(checkTime), Server: plan.Server{
			ID: h.freeID(st.Backend), Name: st.Server, Addr: st.Addr, Weight: st.Weight, MaxConn: st.MaxConn, Backup: st.Backup, Checked: true,
		}})
		return nil
	}
	if i < 0 {
		return errors.New("no such server")
	}
	s := servers[i]
	switch st.Kind {
	case plan.Delete:
		if s.Admin != plan.Maint || s.Sessions > 0 {
			return errors.New("only servers in maintenance mode can be deleted")
		}
		h.backends[st.Backend] = slices.Delete(servers, i, i+1)
	case plan.SetReady:
		if st.Prove {
			s.proven, s.Up = now.Add(checkTime), false
		}
		s.Admin, s.changed = plan.Ready, now
		if st.Agent {
			s.Agent = plan.AgentOn
		}
		if s.Agent == plan.AgentOn && s.drains {
			s.Admin = plan.Drain
		}
	case plan.SetDrain:
		s.Admin, s.changed = plan.Drain, now
		s.silence(st)
	case plan.SetMaint:
		s.Admin, s.changed = plan.Maint, now
		s.silence(st)
	case plan.SetWeight:
		s.Weight = st.Weight
	case plan.SetMaxConn:
		s.MaxConn = st.MaxConn
	case plan.SetAddr:
		s.tick(h)
		if st.Addr == s.Addr {
			break // "nothing changed": one that is under way goes on (docs/haproxy-facts.md, fact 2)
		}
		s.next, s.nextAt = st.Addr, now.Add(h.addrDelay)
	case plan.EnableHealth:
		s.Checked = true
	case plan.Shutdown:
		s.Sessions = 0
	case plan.Add:
	}
	return nil
}

// applyWhole takes a step of a backend.
func (h *fakeHAProxy) applyWhole(st plan.Step) error {
	servers, exists := h.backends[st.Backend]
	switch {
	case !h.caps.Backends, exists == (st.Kind == plan.AddBackend):
		return errors.New("no such command, or no such backend")
	case st.Kind == plan.AddBackend:
		h.backends[st.Backend] = []*fakeServer{}
	case st.Kind == plan.DeleteBackend && len(servers) > 0:
		return errors.New("only a backend without server can be deleted")
	case st.Kind == plan.DeleteBackend:
		delete(h.backends, st.Backend)
	}
	h.unpublished[st.Backend] = st.Kind == plan.AddBackend || st.Kind == plan.UnpublishBackend
	return nil
}

// silence disables the agent check where the step does.
func (s *fakeServer) silence(st plan.Step) {
	if st.Agent {
		s.Agent = plan.AgentOff
	}
}

func (h *fakeHAProxy) freeID(backend string) int {
	highest := 0
	for _, s := range h.backends[backend] {
		highest = max(highest, s.ID)
	}
	return highest + 1
}

func (h *fakeHAProxy) Reload(ctx context.Context, want plan.Marker) error {
	h.mu.Lock()
	hold := h.holdLoad
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reloads = append(h.reloads, time.Now())
	content, _ := h.file.Read()
	if h.failLoad != nil {
		if err := h.failLoad(content); err != nil {
			return err
		}
	}
	if h.lieLoad {
		return nil
	}
	h.load(content)
	if h.onLoad != nil {
		h.onLoad()
	}
	if h.marker != want {
		return fmt.Errorf("HAProxy runs %v, want %v", h.marker, want)
	}
	return nil
}

func (h *fakeHAProxy) OldWorkers(context.Context) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.old, nil
}

func (h *fakeHAProxy) oldWorkersMemory(context.Context) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.memory, nil
}

func (h *fakeHAProxy) Capabilities(context.Context) plan.Capabilities { return h.caps }

// with changes it behind the sidecar's back.
func (h *fakeHAProxy) with(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// server returns one server, for with.
func (h *fakeHAProxy) server(backend, name string) *fakeServer {
	for _, s := range h.backends[backend] {
		if s.Name == name {
			return s
		}
	}
	panic("no server " + backend + "/" + name)
}

// shows returns the servers that are not free slots: name, address, state.
func (h *fakeHAProxy) shows(backend string) (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.backends[backend] {
		s.tick(h)
		if !s.IsFreeSlot() {
			out = append(out, fmt.Sprintf("%s %s %s %v", s.Name, s.Addr, s.Admin, map[bool]string{true: "up", false: "down"}[s.Up]))
		}
	}
	slices.Sort(out)
	return out
}

func (h *fakeHAProxy) steps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.sent)
}

func (h *fakeHAProxy) reloadTimes() []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.reloads)
}

func (h *fakeHAProxy) observations() [][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.observed)
}
