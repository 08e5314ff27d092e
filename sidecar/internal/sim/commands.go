//go:build sim

package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

var (
	errNoServer = errors.New("No such server.")
	errMaint    = errors.New("Only servers in maintenance mode can be deleted.")
	errBusy     = errors.New("Wait delay expired.")
	errTaken    = errors.New("Already exists a server with the same name in backend.")
)

// addrDelay is how long an address takes from the answer to the act, at most,
// since 2.9.
const addrDelay = 5 * time.Millisecond

// do takes one command as HAProxy does. An Add is only the first half of it: a
// server in maint, without its check.
func (p *proxy) do(st plan.Step) error {
	b := p.worker.backends[st.Backend]
	if b == nil {
		return errors.New("No such backend.")
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
		if st.Prove && s.checked {
			s.Checked, s.Up = true, false
		} else if s.Admin == plan.Maint {
			s.Up = true // until its check says otherwise
		}
		if s.Admin != plan.Ready {
			s.changed = now
		}
		s.Admin, s.turning = plan.Ready, 0
	case plan.SetDrain:
		if s.Up || !p.dynamic || s.Admin == plan.Maint {
			s.changed = now
		}
		if s.Admin == plan.Maint {
			s.Up = true
		}
		s.Admin = plan.Drain
	case plan.SetMaint:
		s.Admin, s.Up, s.changed = plan.Maint, false, now
	case plan.SetWeight:
		s.Weight = st.Weight
	case plan.SetMaxConn:
		s.MaxConn = st.MaxConn
	case plan.SetAddr:
		p.setAddr(s, st)
	case plan.EnableHealth:
		if !s.checked {
			return errors.New("Health check was not configured on this server, cannot enable.")
		}
		s.Checked = true
	case plan.Shutdown:
		p.shutdown(place{p.w.serviceOf(st.Backend), st.Addr})
	case plan.Add:
	}
	return nil
}

func (p *proxy) add(b *backend, s *server, st plan.Step) error {
	switch {
	case p.w.set.refuses[b.name]:
		return fmt.Errorf("Backend must use a dynamic load balancing to support dynamic servers.: %w", plan.ErrRefused)
	case s != nil:
		return errTaken
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
	b.servers = append(b.servers, &server{checked: st.Options == "check", changed: p.w.now(), Server: plan.Server{
		ID: id, Name: st.Server, Addr: st.Addr, Admin: plan.Maint, Weight: st.Weight, MaxConn: st.MaxConn, Backup: st.Backup,
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

// shutdown ends the sessions on an address, in every worker.
func (p *proxy) shutdown(at place) {
	for _, x := range p.sessionsOn(at) {
		p.finish(x)
	}
}

// setAddr: since 2.9 the answer comes before the act, and an address that is
// the present one changes nothing, whatever is on its way (haproxy.md, facts 1
// and 2).
func (p *proxy) setAddr(s *server, st plan.Step) {
	if !p.dynamic {
		s.Addr, s.turning = st.Addr, 0
		return
	}
	if s.Addr == st.Addr {
		return
	}
	s.pending = st.Addr
	p.w.after(time.Duration(p.w.luck.Int64N(int64(addrDelay))), func() {
		if s.pending == st.Addr {
			s.Addr, s.pending = st.Addr, netip.AddrPort{}
			s.turning = 0
		}
	})
}
