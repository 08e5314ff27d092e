package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// scene is the state of one run of a specification: HAProxy, Consul, and a
// sidecar that remembers no more than the agent does.
type scene struct {
	t       *testing.T
	m       *model
	d       plan.Desired
	snap    catalog.Snapshot
	left    []plan.FileServer
	refuses bool
	adds    bool
	guard   plan.Guard
	absent  map[string]time.Duration
	ended   map[string]time.Duration
	flaps   map[string]bool
	listed  map[netip.AddrPort]string
	drains  map[string]int
	down    bool // HAProxy is not running
	last    plan.Plan
}

const backend = "api_nodes"

func newScene(t *testing.T, dynamic bool) *scene {
	return &scene{
		t: t, d: desired(), snap: catalog.NewSnapshot(),
		m: newModel(dynamic, ours, plan.FileBackend{Backend: backend}),
	}
}

// run does what a block says. What it gives is compared with the block's lines
// if isExpected.
func (s *scene) run(b *block) (got []string, isExpected bool) {
	s.t.Helper()
	head, rest, _ := strings.Cut(b.head, " ")
	switch head {
	case "in":
	case "set":
		s.set(strings.Fields(rest))
	case "haproxy":
		s.haproxy(rest, b.lines)
	case "consul":
		s.consul(rest, b.lines)
	case "node":
		addr, what, _ := strings.Cut(rest, " ")
		s.m.nodes[s.addr(addr)] = what == "answers"
	case "someone", "sessions":
		s.someone(strings.Fields(rest))
	case "plan":
		s.compute()
		return printPlan(s.last), true
	case "file":
		return printFile(s.last.File[0]), true
	case "placed":
		return printPlaced(s.last.Placed), true
	case "servers":
		return printServers(s.m.o.Backends[backend].Servers), true
	case "apply":
		s.apply()
	case "pass":
		d, err := time.ParseDuration(rest)
		s.fatalIf(err)
		s.pass(d)
	case "guard": // is released
		for server, h := range s.guard.Holds {
			h.Released = true
			s.guard.Holds[server] = h
		}
	case "listed": // at an address, by a service
		addr, name, _ := strings.Cut(rest, " ")
		s.listed = map[netip.AddrPort]string{s.addr(addr): name}
	case "flapping":
		s.flaps = map[string]bool{}
		for id := range strings.FieldsSeq(rest) {
			s.flaps[id] = true
		}
	case "operator": // drains
		s.drains = map[string]int{}
		for n, id := range strings.Fields(strings.TrimPrefix(rest, "drains")) {
			s.drains[id] = n + 1
		}
	case "settle":
		s.settle()
	case "sidecar": // restarts
		s.left, s.refuses, s.adds, s.last, s.guard, s.absent = nil, false, false, plan.Plan{}, plan.Guard{}, nil
		s.ended = nil
	case "load": // HAProxy is restarted with the last plan's file
		s.m.load(s.d.Marker, s.last.File)
		s.left, s.down = nil, false
	default:
		s.t.Fatalf("line %d: no such word: %s", b.line, b.head)
	}
	return nil, false
}

func (s *scene) fatalIf(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) observed() plan.Observed {
	o := s.m.observed()
	if s.down {
		return plan.Observed{Caps: o.Caps, Drained: map[string]map[string]int{backend: s.drains}, Last: map[string][]plan.FileServer{backend: s.lastTraffic()}}
	}
	if b, exists := o.Backends[backend]; exists {
		b.Left, b.Refuses, b.Adds = s.left, s.refuses, s.adds
		o.Backends[backend] = b
	}
	o.Flapping = map[string]map[string]bool{backend: s.flaps}
	o.Listed = s.listed
	o.Drained = map[string]map[string]int{backend: s.drains}
	o.Guards = map[string]plan.Guard{backend: s.guard}
	o.Absent = map[string]map[string]time.Duration{backend: s.absent}
	o.Ended = map[string]map[string]time.Duration{backend: s.ended}
	return o
}

func (s *scene) compute() {
	s.last = plan.Compute(s.d, s.observed(), s.snap)
	s.guard = remember(s.guard, s.last)
	absent := map[string]time.Duration{}
	for _, a := range s.last.Absent {
		absent[a.Server] = s.absent[a.Server]
	}
	s.absent = absent
}

func (s *scene) pass(d time.Duration) {
	s.m.pass(d)
	s.guard = later(s.guard, d)
	for server := range s.absent {
		s.absent[server] += d
	}
}

// lastTraffic is the servers that took traffic when HAProxy ended.
func (s *scene) lastTraffic() (out []plan.FileServer) {
	for _, srv := range s.m.o.Backends[backend].Servers {
		if srv.Admin == plan.Ready && srv.Up && srv.Weight > 0 {
			out = append(out, plan.FileServer{Name: srv.Name, Addr: srv.Addr, Weight: srv.Weight, MaxConn: srv.MaxConn, Backup: srv.Backup})
		}
	}
	return out
}

// remember returns what the agent remembers of a plan.
func remember(was plan.Guard, p plan.Plan) plan.Guard {
	g := plan.Guard{Lost: map[string]time.Duration{}, Holds: map[string]plan.Hold{}}
	for _, l := range p.Lost {
		g.Lost[l.Server] = l.Ago
	}
	for _, w := range p.Waiting {
		if h, held := was.Holds[w.Server]; held || w.For == plan.ForGuard {
			g.Holds[w.Server] = h
		}
	}
	return g
}

// later is the same memory after some time.
func later(g plan.Guard, d time.Duration) plan.Guard {
	for server := range g.Lost {
		g.Lost[server] += d
	}
	for server, h := range g.Holds {
		h.For += d
		g.Holds[server] = h
	}
	return g
}

// apply does what the agent does with a plan, and remembers what it left.
func (s *scene) apply() {
	s.t.Helper()
	for _, st := range s.last.Steps {
		s.fatalIf(s.m.apply(st))
		s.adds = s.adds || st.Kind == plan.Add
		if st.Sessions > 0 {
			i := slices.IndexFunc(s.m.o.Backends[backend].Servers, func(x plan.Server) bool { return x.Name == st.Server })
			s.ended = map[string]time.Duration{st.Server: s.m.o.Backends[backend].Servers[i].SinceChange}
		}
	}
	if s.last.Reload != plan.NoReload {
		s.m.load(s.d.Marker, s.last.File)
		s.left = nil
	}
	if len(s.last.Steps) == 0 && s.last.Reload == plan.NoReload {
		s.left = s.last.File[0].Servers
	}
}

func (s *scene) settle() {
	s.t.Helper()
	for range 100 {
		s.compute()
		s.apply()
		if s.last.Empty() && len(s.last.Waiting) == 0 {
			return
		}
		s.pass(time.Second)
	}
	if !s.last.Empty() {
		s.t.Fatalf("no end after 100 passes: %q", printPlan(s.last))
	}
}

// set changes the operator's policy.
func (s *scene) set(words []string) {
	s.t.Helper()
	svc := &s.d.Services[0]
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "slots":
			svc.Slots, err = strconv.Atoi(value)
		case "spare":
			svc.Spare, err = strconv.Atoi(value)
		case "drain":
			svc.DrainTimeout, err = time.ParseDuration(value)
		case "shutdown":
			svc.SessionKillAfter, err = time.ParseDuration(value)
		case "spread":
			svc.SessionKillSpread, err = time.ParseDuration(value)
		case "replacement":
			svc.ReplacementTimeout, err = time.ParseDuration(value)
		case "min":
			svc.MinServers, err = strconv.Atoi(value)
		case "removal":
			svc.MaxLossRatio, err = strconv.ParseFloat(value, 64)
		case "window":
			svc.Window, err = time.ParseDuration(value)
		case "hold":
			svc.Hold, err = time.ParseDuration(value)
		case "hold-deregistered":
			svc.HoldDeregistered, err = time.ParseDuration(value)
		case "checked":
			svc.Checked, err = strconv.ParseBool(value)
		case "warning":
			svc.Warning, err = strconv.ParseBool(value)
		case "force":
			svc.ForceSlots, err = strconv.ParseBool(value)
		case "static":
			svc.Static, err = strconv.ParseBool(value)
			svc.ForceSlots, s.m.static = svc.Static, svc.Static
		case "agents":
			s.m.agents, err = strconv.ParseBool(value)
			svc.Options = "check agent-check"
		case "ports": // the agents' ports are the instances'
			svc.AgentFromMeta, err = strconv.ParseBool(value)
		case "move":
			svc.MoveSticky, err = strconv.ParseBool(value)
		case "close":
			svc.CloseRole, err = strconv.ParseBool(value)
		case "maxconn":
			svc.MaxConn, err = strconv.Atoi(value)
		case "operator":
			svc.Operator = []string{value}
		default:
			err = fmt.Errorf("set: no such word: %s", key)
		}
		s.fatalIf(err)
	}
}

// haproxy sets what HAProxy runs.
func (s *scene) haproxy(what string, lines []string) {
	s.t.Helper()
	switch what {
	case "":
		var servers []plan.Server
		for n, line := range lines {
			words := strings.Fields(line)
			srv := plan.Server{ID: n + 1, Name: words[0], Addr: s.addr(words[1]), Weight: 1, ConfigWeight: 1, Checked: true, SinceChange: time.Hour}
			for _, w := range words[2:] {
				s.fatalIf(change(&srv, w))
			}
			servers = append(servers, srv)
		}
		s.m.next = len(servers)
		s.m.o.Backends[backend] = plan.Backend{Servers: servers}
		s.down = false
	case "ends":
		s.down = true
	case "has no such backend":
		delete(s.m.o.Backends, backend)
	case "runs a file that is not ours":
		s.m.o.Marker = plan.Marker{}
	case "refuses to add servers":
		s.refuses = true
	default:
		s.t.Fatalf("haproxy: no such words: %s", what)
	}
}

// someone changes HAProxy behind the sidecar's back.
func (s *scene) someone(words []string) {
	s.t.Helper()
	servers := s.m.o.Backends[backend].Servers
	i := slices.IndexFunc(servers, func(srv plan.Server) bool { return srv.Name == words[0] })
	if i < 0 {
		s.t.Fatalf("no server %s", words[0])
	}
	for _, w := range words[1:] {
		s.fatalIf(change(&servers[i], w))
	}
}

// change sets one thing of a server.
func change(srv *plan.Server, word string) (err error) {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "ready":
		srv.Admin = plan.Ready
	case "drain":
		srv.Admin = plan.Drain
	case "maint":
		srv.Admin, srv.Up = plan.Maint, false
	case "up":
		srv.Up = true
	case "down":
		srv.Up = false
	case "backup":
		srv.Backup = true
	case "unchecked":
		srv.Checked = false
	case "nocheck":
		srv.Checked, srv.NoCheck = false, true
	case "weight":
		srv.Weight, err = strconv.Atoi(value)
	case "config":
		srv.ConfigWeight, err = strconv.Atoi(value)
	case "agent":
		i := slices.IndexFunc([]plan.Agent{plan.NoAgent, plan.AgentOff, plan.AgentBusy, plan.AgentOn}, func(a plan.Agent) bool { return a.String() == value })
		if i < 0 {
			return fmt.Errorf("agent: no such word: %s", value)
		}
		srv.Agent = plan.Agent(i)
	case "port":
		srv.AgentPort, err = strconv.Atoi(value)
	case "disabled":
		srv.FileDisabled = true
	case "maxconn":
		srv.MaxConn, err = strconv.Atoi(value)
	case "sessions":
		srv.Sessions, err = strconv.Atoi(value)
	case "uncounted":
		srv.Sessions, srv.Uncounted = 1, true
	case "counted":
		srv.Sessions, srv.Uncounted = 0, false
	case "since":
		srv.SinceChange, err = time.ParseDuration(value)
	case "addr":
		srv.Addr = shortAddr(value)
	default:
		err = fmt.Errorf("server %s: no such word: %s", srv.Name, word)
	}
	return err
}

func (s *scene) consul(what string, lines []string) {
	s.t.Helper()
	switch what {
	case "":
		var all, untagged []catalog.Instance
		for _, line := range lines {
			if words, is := strings.CutSuffix(line, " untagged"); is {
				i := s.instance(strings.Fields(words))
				untagged = append(untagged, catalog.Instance{ID: i.ID, Node: i.Node, Server: i.Server, Addr: i.Addr})
				continue
			}
			all = append(all, s.instance(strings.Fields(line)))
		}
		svc := known("api", all...).Service(backend)
		svc.Untagged = untagged
		s.snap = catalog.NewSnapshot(svc)
	case "has not answered":
		s.snap = catalog.NewSnapshot()
	default:
		s.t.Fatalf("consul: no such words: %s", what)
	}
}

func (s *scene) instance(words []string) catalog.Instance {
	s.t.Helper()
	i := catalog.Instance{ID: words[0], Node: "node", Server: catalog.ServerName(words[0], ""), Addr: s.addr(words[1]), Weight: 1}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "warning":
			i.Health = catalog.Warning
		case "critical":
			i.Health = catalog.Critical
		case "maintenance":
			i.Health = catalog.Maintenance
		case "leaving": // =N is the Nth to leave
			at := 0
			if value != "" {
				at, err = strconv.Atoi(value)
			}
			i.Leaving = time.Unix(1000+int64(at), 0)
		case "weight":
			i.Weight, err = strconv.Atoi(value)
		case "share": // the weight, by a rollout
			i.ByShare = true
			i.Weight, err = strconv.Atoi(value)
		case "port":
			i.AgentPort, err = strconv.Atoi(value)
		case "maxconn":
			i.MaxConn, err = strconv.Atoi(value)
		case "backup":
			i.Backup = true
		case "server":
			i.Server = value
		case "node":
			i.Node = value
		case "twin":
			i.Server = catalog.ServerName(i.ID, i.Node)
		default:
			err = fmt.Errorf("instance %s: no such word: %s", i.ID, w)
		}
		s.fatalIf(err)
	}
	return i
}

func (s *scene) addr(text string) netip.AddrPort { return shortAddr(text) }

// shortAddr: ".7" is 10.0.0.7:4000, "none" that of a slot that no instance has.
func shortAddr(text string) netip.AddrPort {
	switch {
	case text == "none":
		return netip.MustParseAddrPort("127.0.0.1:9")
	case text == "invalid":
		return netip.AddrPort{}
	case strings.HasPrefix(text, "."):
		n, err := strconv.Atoi(text[1:])
		if err != nil {
			panic(err)
		}
		return addr(n)
	}
	return netip.MustParseAddrPort(text)
}
