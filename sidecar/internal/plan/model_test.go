package plan_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// model is an HAProxy made of plain values: it takes steps as the real one
// does, refuses what that refuses, and lets time pass.
type model struct {
	o     plan.Observed
	nodes map[netip.AddrPort]bool // answers HAProxy's check there; absent: yes
	next  int

	static bool // its balance algorithm takes no weights at runtime
	agents bool // the servers in its file have agent checks
}

func agentAfterAdd(st plan.Step) plan.Agent {
	if st.Agent {
		return plan.AgentOn
	}
	return plan.NoAgent
}

func newModel(dynamic bool, marker plan.Marker, file ...plan.FileBackend) *model {
	m := &model{nodes: map[netip.AddrPort]bool{}}
	m.o = plan.Observed{Running: true, PID: 1, Marker: marker, Caps: plan.Capabilities{Version: "2.6.12"}}
	if dynamic {
		m.o.Caps = plan.Capabilities{Version: "3.2.26", Dynamic: true}
	}
	m.load(marker, file)
	return m
}

// load is a start or a reload: the runtime state is gone, the file's is there.
func (m *model) load(marker plan.Marker, file []plan.FileBackend) {
	m.o.PID++
	m.o.Marker = marker
	m.o.Backends = map[string]plan.Backend{}
	for _, f := range file {
		var b plan.Backend
		for _, s := range f.Servers {
			m.next++
			srv := plan.Server{
				ID: m.next, Name: s.Name, Addr: s.Addr, Weight: s.Weight, ConfigWeight: s.Weight, MaxConn: s.MaxConn, Backup: s.Backup,
				Up: !s.Disabled, Checked: true, FileDisabled: s.Disabled,
			}
			if m.agents {
				srv.Agent, srv.AgentPort = plan.AgentOn, cmp.Or(s.AgentPort, plan.NoAgentPort)
			}
			if s.Disabled {
				srv.Admin = plan.Maint
			}
			b.Servers = append(b.Servers, srv)
		}
		m.o.Backends[f.Backend] = b
	}
}

// apply takes one step, or says why HAProxy would not.
func (m *model) apply(st plan.Step) error {
	b, exists := m.o.Backends[st.Backend]
	if isWhole, err := m.applyWhole(st, b, exists); isWhole || err != nil {
		return err
	}
	b.Servers = slices.Clone(b.Servers)
	i := slices.IndexFunc(b.Servers, func(s plan.Server) bool { return s.Name == st.Server })
	if st.Kind == plan.Add {
		if i >= 0 {
			return fmt.Errorf("add %s: name taken", st.Server)
		}
		if !m.o.Caps.Dynamic {
			return fmt.Errorf("add %s on %s", st.Server, m.o.Caps.Version)
		}
		m.next++
		b.Servers = append(b.Servers, plan.Server{
			ID: m.next, Name: st.Server, Addr: st.Addr, Weight: st.Weight, ConfigWeight: st.Weight, MaxConn: st.MaxConn, Backup: st.Backup,
			Checked: true, Up: !st.Prove, Agent: agentAfterAdd(st), AgentPort: st.AgentPort,
		})
		m.o.Backends[st.Backend] = b
		return nil
	}
	if i < 0 {
		return fmt.Errorf("%s %s: no such server", st.Kind, st.Server)
	}
	s := &b.Servers[i]
	was := *s
	switch st.Kind {
	case plan.Delete:
		if s.Admin != plan.Maint || s.Sessions > 0 {
			return fmt.Errorf("delete %s: %s with %d sessions", st.Server, s.Admin, s.Sessions)
		}
		b.Servers = slices.Delete(b.Servers, i, i+1)
		m.o.Backends[st.Backend] = b
		return nil
	case plan.SetReady:
		s.Admin = plan.Ready
		s.Up = was.Admin == plan.Drain && s.Up || was.Admin == plan.Maint && !st.Prove
		if st.Agent {
			s.Agent, s.Weight, s.AgentPort = plan.AgentOn, s.ConfigWeight, cmp.Or(st.AgentPort, s.AgentPort)
		}
	case plan.SetDrain:
		s.Admin = plan.Drain
	case plan.SetMaint:
		s.Admin, s.Up = plan.Maint, false
	case plan.SetWeight:
		if m.static && !st.Percent {
			return fmt.Errorf("weight %s: a static algorithm takes 0 %% and 100 %% only", st.Server)
		}
		if s.Weight = st.Weight; st.Percent {
			s.Weight = s.ConfigWeight * st.Weight / 100
		}
	case plan.SetMaxConn:
		s.MaxConn = st.MaxConn
	case plan.SetAddr:
		if !m.o.Caps.Dynamic && (s.Admin != plan.Maint || s.Sessions > 0) {
			return fmt.Errorf("addr %s: connections stay with the old address", st.Server)
		}
		s.Addr = st.Addr
	case plan.EnableHealth:
		s.Checked = true
	case plan.Shutdown:
		if s.Admin != plan.Maint || st.Addr != s.Addr {
			return fmt.Errorf("shutdown %s: %s at %s", st.Server, s.Admin, s.Addr)
		}
		if s.Sessions -= st.Sessions; st.Sessions == 0 {
			s.Sessions = 0
		}
	case plan.EnableAgent:
		s.Agent, s.Weight, s.AgentPort = plan.AgentOn, s.ConfigWeight, cmp.Or(st.AgentPort, s.AgentPort)
		s.Up = !st.Prove // whatever its check last said
	case plan.DisableAgent:
		s.Agent = plan.AgentOff
	case plan.Add, plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
	}
	if st.Agent && st.Kind != plan.SetReady {
		s.Agent = plan.AgentOff
	}
	if s.Admin != was.Admin || s.Up != was.Up {
		s.SinceChange = 0
	}
	m.o.Backends[st.Backend] = b
	return nil
}

// applyWhole takes a step of a whole backend, as HAProxy 3.4 does. It reports whether it is
// one.
func (m *model) applyWhole(st plan.Step, b plan.Backend, exists bool) (isWhole bool, err error) {
	refuse := func(why string) (bool, error) { return true, fmt.Errorf("%s %s: %s", st.Kind, st.Backend, why) }
	switch {
	case st.Kind != plan.AddBackend && !exists:
		return refuse("no such backend")
	case st.Kind == plan.AddBackend && exists:
		return refuse("name is already used")
	case st.Kind == plan.DeleteBackend && !b.Unpublished:
		return refuse("must be unpublished")
	case st.Kind == plan.DeleteBackend && len(b.Servers) > 0:
		return refuse("only a backend without server")
	}
	switch st.Kind {
	case plan.AddBackend:
		m.o.Backends[st.Backend] = plan.Backend{Unpublished: true}
	case plan.PublishBackend, plan.UnpublishBackend:
		b.Unpublished = st.Kind == plan.UnpublishBackend
		m.o.Backends[st.Backend] = b
	case plan.DeleteBackend:
		delete(m.o.Backends, st.Backend)
	case plan.Add, plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint, plan.SetWeight, plan.SetMaxConn, plan.SetAddr, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent, plan.Shutdown:
		return false, nil
	}
	if !m.o.Caps.Backends {
		return refuse("unknown command")
	}
	return true, nil
}

// pass lets time go by: checks are made, requests end.
func (m *model) pass(d time.Duration) {
	for name, b := range m.o.Backends {
		b.Servers = slices.Clone(b.Servers)
		for i := range b.Servers {
			s := &b.Servers[i]
			s.SinceChange += d
			if s.Sessions > 0 && s.Admin != plan.Ready {
				s.Sessions--
			}
			if s.Admin == plan.Maint || !s.Checked {
				continue
			}
			answers, told := m.nodes[s.Addr]
			if up := answers || !told; up != s.Up {
				s.Up, s.SinceChange = up, 0
			}
		}
		m.o.Backends[name] = b
	}
}

// observed is what a sidecar would read.
func (m *model) observed() plan.Observed {
	o := m.o
	o.Backends = make(map[string]plan.Backend, len(m.o.Backends))
	for name, b := range m.o.Backends {
		b.Servers = slices.Clone(b.Servers)
		o.Backends[name] = b
	}
	return o
}

func (m *model) servers(backend string) []plan.Server {
	s := slices.Clone(m.o.Backends[backend].Servers)
	slices.SortFunc(s, func(a, b plan.Server) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// serving counts the servers that get requests and answer them.
func (m *model) serving(backend string) (n int) {
	for _, s := range m.o.Backends[backend].Servers {
		answers, told := m.nodes[s.Addr]
		if s.Up && s.Admin == plan.Ready && s.Weight > 0 && (answers || !told) {
			n++
		}
	}
	return n
}

func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 4000)
}

func instance(id string, n int, change ...func(*catalog.Instance)) catalog.Instance {
	i := catalog.Instance{ID: id, Node: "node", Server: catalog.ServerName(id, ""), Addr: addr(n), Weight: 1}
	for _, c := range change {
		c(&i)
	}
	return i
}

func critical(i *catalog.Instance) { i.Health = catalog.Critical }
func leaving(i *catalog.Instance)  { i.Leaving = time.Unix(1000, 0) }

func known(name string, instances ...catalog.Instance) catalog.Snapshot {
	slices.SortFunc(instances, func(a, b catalog.Instance) int { return cmp.Compare(a.Server, b.Server) })
	return catalog.NewSnapshot(catalog.Service{Name: name + "_nodes", Known: true, Instances: instances})
}

var ours = plan.Marker{Template: "t", Services: "s", Settings: "g"}

func desired() plan.Desired {
	return plan.Desired{Marker: ours, Services: []plan.Service{{
		Name: "api", Backend: "api_nodes", Checked: true, Options: "check", Warning: true,
		Slots: 6, Spare: 2, DrainTimeout: 30 * time.Second, ReplacementTimeout: 30 * time.Second,
		MinServers: 1, MaxLossRatio: 0.5,
	}}}
}
