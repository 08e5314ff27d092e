package sim

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// proxy is an HAProxy: a worker that serves, and old ones that finish what
// they have.
type proxy struct {
	w       *world
	dynamic bool // of 3.0 or newer
	running bool
	pid     int
	worker  *worker
	old     []*worker
	// foreign is when another program last started or reloaded it.
	foreign time.Duration
	// masterBack is when the master has started itself again after a reload. Until
	// then the sessions in old workers can't be counted.
	masterBack time.Duration
	strange    bool // and from a file that is not ours, as it is
}

// worker is one process of it.
type worker struct {
	pid      int
	marker   plan.Marker
	backends map[string]*backend
	names    []string          // of the backends, sorted
	tables   map[string]*table // by file
}

type backend struct {
	name    string
	servers []*server

	unpublished bool // no request is routed to it
}

// server is one server of a worker.
type server struct {
	plan.Server // SinceChange and Sessions are worked out when they are asked for
	worker      *worker
	service     string         // Consul's name
	checked     bool           // a check is configured; Server.Checked: and it is on
	pending     netip.AddrPort // that was said to be set, and is not yet
	landed      time.Duration  // when the last such address was set
	changed     time.Duration  // when its state last changed, as HAProxy tells it
	routed      time.Duration  // when it last could get new sessions
	turning     time.Duration  // when its check turns Up; 0: it does not
	sessions    []*session
	foreign     time.Duration // when another program last touched it
	answered    time.Duration // when its agent last changed it
	fileAgent   bool          // its agent is on because the file has it so, though it is disabled there

	text   string // Addr, when that was textOf
	textOf netip.AddrPort
}

// address is Addr as text: each reported state is compared with it.
func (s *server) address() string {
	if s.text == "" || s.textOf != s.Addr {
		s.text, s.textOf = s.Addr.String(), s.Addr
	}
	return s.text
}

// session is one request under way.
type session struct {
	addr   netip.AddrPort
	worker *worker
	server *server
}

func (p *proxy) version() plan.Capabilities {
	switch {
	case p.dynamic && p.w.set.backends:
		return plan.Capabilities{Version: "3.4.7", Dynamic: true, Backends: true}
	case p.dynamic:
		return plan.Capabilities{Version: "3.2.26", Dynamic: true}
	}
	return plan.Capabilities{Version: "2.6.12"}
}

// start is what an init system does. It reports whether HAProxy runs now.
func (p *proxy) start() bool {
	c, ok := p.w.disk.on()
	if p.running || !ok || c.invalid || !p.w.disk.hasMaps(c) {
		return p.running
	}
	p.running = true
	p.foreign = p.w.now()
	p.load(c)
	p.w.note("haproxy starts, pid %d: %s", p.pid, p.worker)
	return true
}

func (p *proxy) stop() {
	p.w.note("haproxy ends")
	p.running, p.worker, p.old = false, nil, nil
}

// reload loads what is on disk, or says why not.
func (p *proxy) reload() error {
	c, ok := p.w.disk.on()
	if !ok || c.invalid || !p.w.disk.hasMaps(c) {
		return fmt.Errorf("the file is not valid")
	}
	was := p.worker
	p.load(c)
	if was.busy() {
		p.old = append(p.old, was)
	}
	p.masterBack = p.w.now() + time.Duration(p.w.callRNG.Int64N(int64(600*time.Millisecond)))
	p.w.changed = p.w.now() // its agents have not answered the new worker
	p.w.note("haproxy has reloaded, pid %d, %d old workers: %s", p.pid, len(p.old), p.worker)
	return nil
}

func (p *proxy) load(c content) {
	if p.w.disk.foreign {
		for _, n := range p.w.nodes {
			n.orderly = n.orderly && n.waiting // who has written that file answers for them, until the sidecar has seen it
		}
	}
	for _, n := range p.w.nodes {
		if n.alive && n.leaving && !n.waiting && !n.filed {
			n.orderly = false // it was told while the file could not be written, and has not ended yet
		}
	}
	p.pid++
	p.strange = p.w.disk.foreign
	now := p.w.now()
	p.worker = &worker{pid: p.pid, marker: c.marker, backends: map[string]*backend{}, tables: p.w.disk.load(c)}
	for _, f := range c.backends {
		b := &backend{name: f.Backend}
		checked, asked := false, false
		if f.Service != "" {
			checked, asked = p.w.service(f.Service).Checked, hasAgents(p.w.service(f.Service))
		}
		for n, s := range f.Servers {
			srv := &server{worker: p.worker, service: f.Service, checked: checked, changed: now, Server: plan.Server{
				ID: n + 1, Name: s.Name, Addr: s.Addr, Weight: s.Weight, ConfigWeight: s.Weight, MaxConn: s.MaxConn, Backup: s.Backup,
				Checked: checked, NoCheck: !checked, Up: !s.Disabled, FileDisabled: s.Disabled,
			}}
			if s.Disabled {
				srv.Admin = plan.Maint
			}
			if asked {
				srv.Agent, srv.AgentPort, srv.fileAgent = plan.AgentOn, portOf(p.w.service(f.Service), s.AgentPort), s.Disabled
			}
			if at := (place{f.Service, s.Addr}); p.w.disk.foreign || !p.w.left[at] {
				// The writer of that file may bring back any instance.
				delete(p.w.left, at)
			}
			b.servers = append(b.servers, srv)
		}
		p.worker.backends[f.Backend] = b
		p.worker.names = append(p.worker.names, f.Backend)
	}
	slices.Sort(p.worker.names)
	p.w.checkLive("the new worker", now, func(*table) bool { return false })
}

// String lists the servers.
func (wk *worker) String() string {
	var out strings.Builder
	for _, name := range wk.names {
		out.WriteString(name + ":")
		if wk.backends[name].unpublished {
			out.WriteString(" (unpublished)")
		}
		for _, s := range wk.backends[name].servers {
			if s.IsFreeSlot() {
				fmt.Fprintf(&out, " (%s)", s.Name)
				continue
			}
			health := "down"
			if s.Up {
				health = "up"
			}
			fmt.Fprintf(&out, " %s@%s %s %s w%d,", s.Name, s.Addr, s.Admin, health, s.Weight)
		}
		out.WriteString(" ")
	}
	for _, file := range slices.Sorted(maps.Keys(wk.tables)) {
		fmt.Fprintf(&out, "%s %v ", file, wk.tables[file].entries)
	}
	return out.String()
}

func (wk *worker) busy() bool {
	for _, b := range wk.backends {
		for _, s := range b.servers {
			if len(s.sessions) > 0 {
				return true
			}
		}
	}
	return false
}

func (b *backend) server(name string) *server {
	for _, s := range b.servers {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// find returns a server that runs now.
func (p *proxy) find(backend, name string) *server {
	if !p.running || p.worker.backends[backend] == nil {
		return nil
	}
	return p.worker.backends[backend].server(name)
}

// settle lets checks begin and end.
func (p *proxy) settle() {
	if !p.running {
		return
	}
	now := p.w.now()
	for _, name := range p.worker.names {
		for _, s := range p.worker.backends[name].servers {
			p.tend(s, now)
		}
	}
}

// tend brings one server's health to the present.
func (p *proxy) tend(s *server, now time.Duration) {
	switch {
	case s.Admin == plan.Maint:
		s.Up, s.turning = false, 0
	case !s.checked:
		s.Up, s.turning = true, 0
	case !s.Checked:
		s.turning = 0
	default:
		n := p.w.where[s.Addr]
		answers := n != nil && n.listening
		switch {
		case answers == s.Up:
			s.turning = 0
		case s.turning == 0:
			took := 250*time.Millisecond + time.Duration(p.w.callRNG.Int64N(int64(500*time.Millisecond)))
			if s.Up {
				took += 750 * time.Millisecond // it takes three bad ones, and two good ones
			}
			s.turning = now + took
			at := s.turning
			p.w.after(took, func() { p.turn(s, at) })
		}
	}
	if s.Up && s.Admin == plan.Ready && s.Weight > 0 {
		s.routed = now
	}
}

func (p *proxy) turn(s *server, at time.Duration) {
	if s.turning != at || s.worker != p.worker {
		return // it was something else's, or an old worker's, which checks no longer
	}
	s.turning, s.changed, s.Up = 0, p.w.now(), !s.Up
	p.w.disturb()
	p.w.note("haproxy's check: %s@%s is up: %v", s.Name, s.Addr, s.Up)
}

// routable returns the servers that a new request of a backend may go to: all of
// them, or the backups where there is none other.
func (p *proxy) routable(name string) (out []*server) {
	if !p.running || p.worker.backends[name] == nil || p.worker.backends[name].unpublished {
		return nil
	}
	var backups []*server
	for _, s := range p.worker.backends[name].servers {
		switch {
		case !s.Up || s.Admin != plan.Ready || s.Weight == 0:
		case s.Backup:
			backups = append(backups, s)
		default:
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return backups
	}
	return out
}

// request routes one, that takes some time.
func (p *proxy) request(name string, lasts time.Duration) {
	p.w.res.Requests++
	servers := p.routable(name)
	if len(servers) == 0 {
		return
	}
	s := servers[p.w.callRNG.IntN(len(servers))]
	if n := p.w.where[s.Addr]; n == nil || !n.listening {
		return // a dead node that is not noticed yet; checkRoutes knows of the others
	}
	x := &session{addr: s.Addr, worker: p.worker, server: s}
	s.sessions = append(s.sessions, x)
	p.w.note("request on %s/%s@%s for %s", name, s.Name, s.Addr, lasts.Round(time.Millisecond))
	p.w.after(lasts, func() { p.finish(x) })
}

// finish ends a session, and the old worker that had no other.
func (p *proxy) finish(x *session) {
	i := slices.Index(x.server.sessions, x)
	if i < 0 {
		return
	}
	x.server.sessions = slices.Delete(x.server.sessions, i, i+1)
	if x.server.Admin != plan.Ready || len(p.old) > 0 {
		p.w.disturb()
	}
	p.old = slices.DeleteFunc(p.old, func(wk *worker) bool { return wk == x.worker && !wk.busy() })
}

// all returns every server of every worker with its backend.
func (p *proxy) all(do func(backend string, s *server)) {
	workers := p.old
	if p.running {
		workers = append([]*worker{p.worker}, p.old...)
	}
	for _, wk := range workers {
		for _, name := range wk.names {
			for _, s := range wk.backends[name].servers {
				do(name, s)
			}
		}
	}
}

// sessionsOn returns the sessions of a service on an address, in all workers.
func (p *proxy) sessionsOn(at place) (out []*session) {
	p.all(func(name string, s *server) {
		for _, x := range s.sessions {
			if x.addr == at.addr && p.w.serviceOf(name) == at.service {
				out = append(out, x)
			}
		}
	})
	return out
}

// hasOthersAt reports whether a server of another instance's name is at an
// address.
func (p *proxy) hasOthersAt(at place, id string) (has bool) {
	p.all(func(name string, s *server) {
		has = has || p.w.serviceOf(name) == at.service && s.Addr == at.addr && !isSlot(s.Name) && s.Name != id
	})
	return has
}

// cut ends the sessions on a node that is gone.
func (p *proxy) cut(n *node) {
	var gone []*session
	p.all(func(_ string, s *server) {
		for _, x := range s.sessions {
			if x.addr == n.addr {
				gone = append(gone, x)
			}
		}
	})
	for _, x := range gone {
		p.finish(x)
	}
}

// observe is what the adapter reads: the current worker's servers, and for
// those that are not ready also the sessions of old workers at their address.
func (p *proxy) observe(names []string, uncounted bool) plan.Observed {
	now := p.w.now()
	o := plan.Observed{Running: true, Caps: p.version(), PID: p.pid, Marker: p.worker.marker, Backends: make(map[string]plan.Backend, len(names))}
	for _, name := range names {
		b, exists := p.worker.backends[name]
		if !exists {
			continue
		}
		servers := make([]plan.Server, 0, len(b.servers))
		for _, s := range b.servers {
			srv := s.Server
			srv.SinceChange = (now - s.changed).Truncate(time.Second)
			srv.Sessions = len(s.sessions)
			if srv.Admin != plan.Ready {
				srv.Sessions += p.oldSessions(name, srv.Addr)
				if restarts := now < p.masterBack; restarts || uncounted {
					srv.Uncounted = restarts && srv.Sessions == 0
					srv.Sessions = max(srv.Sessions, 1)
				}
			}
			servers = append(servers, srv)
		}
		slices.SortFunc(servers, func(x, y plan.Server) int { return cmp.Compare(x.ID, y.ID) })
		o.Backends[name] = plan.Backend{Servers: servers, Unpublished: b.unpublished}
	}
	return o
}

func (p *proxy) oldSessions(name string, at netip.AddrPort) (n int) {
	for _, wk := range p.old {
		if b := wk.backends[name]; b != nil {
			for _, s := range b.servers {
				if s.Addr == at {
					n += len(s.sessions)
				}
			}
		}
	}
	return n
}

// What observe counts in old workers, a shutdown ends: also a session that goes
// where its server was before an operator moved it.
func TestProxy_ShutdownOfAServerMovedByHand_EndsItsOldSessions(t *testing.T) {
	p := &proxy{w: &world{began: time.Now()}, running: true}
	load := func() *worker {
		s := &server{Server: plan.Server{Name: "slot-1", Addr: addrOf(2), Admin: plan.Maint}}
		wk := &worker{backends: map[string]*backend{"api_nodes": {name: "api_nodes", servers: []*server{s}}}, names: []string{"api_nodes"}}
		s.worker = wk
		return wk
	}
	p.worker, p.old = load(), []*worker{load()}
	old := p.old[0].backends["api_nodes"].servers[0]
	old.sessions = []*session{{addr: addrOf(1), worker: p.old[0], server: old}}
	if n := p.oldSessions("api_nodes", addrOf(2)); n != 1 {
		t.Fatalf("got %d sessions, want 1", n)
	}
	if err := p.do(plan.Step{Kind: plan.Shutdown, Backend: "api_nodes", Server: "slot-1", Addr: addrOf(2)}); err != nil {
		t.Fatal(err)
	}
	if n := p.oldSessions("api_nodes", addrOf(2)); n != 0 {
		t.Errorf("got %d sessions after the shutdown, want none", n)
	}
}
