package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// reply is HAProxy's word for why it does not do something.
type reply string

// Error returns it as it is.
func (r reply) Error() string { return string(r) }

const (
	errNoBackend reply = "No such backend."
	errNoServer  reply = "No such server."
	errMaint     reply = "Only servers in maintenance mode can be deleted."
	errBusy      reply = "Wait delay expired."
	errTaken     reply = "Already exists a server with the same name in backend."
	errNoAgent   reply = "Agent was not configured on this server, cannot enable."
	errKeyword   reply = "'namespace' option is not accepted for dynamic server"
	errWeights   reply = "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'."
	errNoCheck   reply = "Health check was not configured on this server, cannot enable."
	errStatic    reply = "Backend must use a dynamic load balancing to support dynamic servers."
	errInternal  reply = "Internal error."
)

// addrDelay is how long an address takes from the answer to the act, at most,
// since 2.9.
const addrDelay = 5 * time.Millisecond

// do takes one command as HAProxy does. An Add is only the first half of it: a
// server in maint, without its check.
func (p *proxy) do(st plan.Step) error {
	if isWhole(st.Kind) {
		return p.doWhole(st)
	}
	b := p.worker.backends[st.Backend]
	if b == nil {
		return errNoBackend
	}
	s := b.server(st.Server)
	if st.Kind == plan.Add {
		return p.add(b, s, st)
	}
	if s == nil {
		return errNoServer
	}
	now := p.w.now()
	switch st.Kind {
	case plan.Delete:
		return b.remove(s)
	case plan.SetReady:
		if st.Addr.IsValid() && !p.dynamic && st.Addr != s.Addr {
			s.Addr, s.turning = st.Addr, 0
		}
		if st.Prove && s.checked {
			s.Checked, s.Up = true, false
		} else if s.Admin == plan.Maint {
			s.Up = true // until its check says otherwise
		}
		if s.Admin != plan.Ready {
			s.changed = now
		}
		s.Admin, s.turning = plan.Ready, 0
		if st.Agent {
			return s.enableAgent(st)
		}
	case plan.SetDrain:
		p.quietly(s, st)
		if s.Up || !p.dynamic || s.Admin == plan.Maint {
			s.changed = now
		}
		if s.Admin == plan.Maint {
			s.Up = true
		}
		s.Admin = plan.Drain
	case plan.SetMaint:
		p.quietly(s, st)
		s.Admin, s.Up, s.changed = plan.Maint, false, now
	case plan.SetWeight:
		return p.setWeight(s, st)
	case plan.EnableAgent:
		return s.enableAgent(st)
	case plan.DisableAgent:
		p.disableAgent(s)
	case plan.SetMaxConn:
		s.MaxConn = st.MaxConn
	case plan.SetAddr:
		p.setAddr(s, st)
	case plan.EnableHealth:
		if !s.checked {
			return errNoCheck
		}
		s.Checked = true
	case plan.Shutdown:
		p.shutdown(s, st)
	case plan.Add, plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
	}
	return nil
}

// quietly disables the agent first, if the step says so.
func (p *proxy) quietly(s *server, st plan.Step) {
	if st.Agent {
		p.disableAgent(s)
	}
}

func (p *proxy) setWeight(s *server, st plan.Step) error {
	if !st.Percent && p.w.service(p.w.serviceOf(st.Backend)).Static {
		return fmt.Errorf("%w: %w", errWeights, plan.ErrStatic)
	}
	p.quietly(s, st)
	if s.Weight = st.Weight; st.Percent {
		s.Weight = s.ConfigWeight * st.Weight / 100
	}
	return nil
}

func (p *proxy) add(b *backend, s *server, st plan.Step) error {
	switch {
	case p.w.set.refuses[b.name]:
		return fmt.Errorf("%w: %w", errStatic, plan.ErrRefused)
	case s != nil:
		return errTaken
	case hasWord(st.Options, "namespace"):
		return fmt.Errorf("%w: %w", errKeyword, plan.ErrRefused)
	case !p.dynamic:
		return errors.New("no dynamic servers here")
	}
	taken := map[int]bool{}
	for _, known := range b.servers {
		taken[known.ID] = true
	}
	id := 1
	for taken[id] {
		id++
	}
	agent := plan.NoAgent
	if hasWord(st.Options, "agent-check") {
		agent = plan.AgentOff
	}
	b.servers = append(b.servers, &server{worker: p.worker, service: p.w.serviceOf(st.Backend), checked: hasWord(st.Options, "check"), changed: p.w.now(), Server: plan.Server{
		ID: id, Name: st.Server, Addr: st.Addr, Admin: plan.Maint, Weight: st.Weight, ConfigWeight: st.Weight, MaxConn: st.MaxConn, Backup: st.Backup, Agent: agent, AgentPort: plan.NoAgentPort,
	}})
	return nil
}

func (b *backend) remove(s *server) error {
	switch {
	case s.Admin != plan.Maint:
		return errMaint
	case len(s.sessions) > 0:
		return errBusy
	}
	b.servers = slices.DeleteFunc(b.servers, func(known *server) bool { return known == s })
	return nil
}

// shutdown ends the sessions of a server, and in the old workers those of each
// server that is at its address there. As the adapter counts them: a session may
// still go where its server was before an operator moved it.
func (p *proxy) shutdown(s *server, st plan.Step) {
	gone := slices.Clone(s.sessions)
	for _, wk := range p.old {
		if b := wk.backends[st.Backend]; b != nil {
			for _, old := range b.servers {
				if old.Addr == st.Addr {
					gone = append(gone, old.sessions...)
				}
			}
		}
	}
	for _, x := range gone {
		p.finish(x)
	}
}

// setAddr: since 2.9 the answer comes before the act, and an address that is
// the present one changes nothing, whatever is on its way (docs/haproxy-facts.md, facts 1
// and 2).
func (p *proxy) setAddr(s *server, st plan.Step) {
	if n := p.w.where[s.Addr]; n != nil && len(s.sessions) > 0 && s.Addr != st.Addr {
		// Another's registration at this address has moved away, and took along
		// the count of who is still on it.
		n.orderly = false
	}
	if !p.dynamic {
		s.Addr, s.turning = st.Addr, 0
		return
	}
	if s.Addr == st.Addr {
		return
	}
	s.pending = st.Addr
	p.w.after(time.Duration(p.w.callRNG.Int64N(int64(addrDelay))), func() {
		if s.pending == st.Addr {
			s.Addr, s.pending = st.Addr, netip.AddrPort{}
			s.turning, s.landed = 0, p.w.now()
		}
	})
}

// moves reports whether a server of a backend is about to have another address, or was changed
// by hand: an address that was sent may have been overtaken, and is awaited.
func (p *proxy) moves(backend string) bool {
	b := p.worker.backends[backend]
	return b != nil && slices.ContainsFunc(b.servers, func(s *server) bool {
		return s.pending.IsValid() || s.foreign > 0 && p.w.now()-s.foreign < calm
	})
}
