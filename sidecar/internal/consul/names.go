package consul

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

const (
	// DefaultLookupInterval is how often host names are looked up again.
	DefaultLookupInterval = 5 * time.Second
	// lookupTimeout bounds one lookup, and how long the first answer waits for those
	// that it takes: a server that HAProxy runs must not seem gone meanwhile.
	lookupTimeout = 2 * time.Second
	// maxLookups is how many are under way at once.
	maxLookups = 8
)

// names knows the addresses of the host names in one service's registrations.
type names struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	log    hclog.Logger

	mu    sync.Mutex
	known map[string]found
}

// found is what came out for a name. An address stays while lookups fail.
type found struct {
	addr netip.Addr
	err  error // of the last lookup
}

// address returns the address of a host name, as far as it is known.
func (n *names) address(host string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, known := n.known[host]
	switch {
	case !known:
		return netip.Addr{}, errors.New("the host name is being looked up")
	case !f.addr.IsValid():
		return netip.Addr{}, f.err
	}
	return f.addr, nil
}

// resolver is address, or nil where host names are refused.
func (n *names) resolver() func(string) (netip.Addr, error) {
	if n == nil {
		return nil
	}
	return n.address
}

// lacks reports whether one of the names was never looked up.
func (n *names) lacks(hosts []string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(hosts, func(h string) bool { _, known := n.known[h]; return !known })
}

// refresh looks the names up and forgets all others. It reports whether anything is
// different for who asks for an address.
func (n *names) refresh(ctx context.Context, hosts []string) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	type result struct {
		addrs []netip.Addr
		err   error
	}
	results := make([]result, len(hosts))
	var all sync.WaitGroup
	slots := make(chan struct{}, maxLookups)
	for i, host := range hosts {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			addrs, err := n.lookup(ctx, host)
			if err == nil && len(addrs) == 0 {
				err = errors.New("the host name has no address")
			}
			results[i] = result{addrs, err}
		})
	}
	all.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	now := make(map[string]found, len(hosts))
	for i, host := range hosts {
		was, known := n.known[host]
		f := found{was.addr, results[i].err}
		if f.err == nil {
			f.addr = choose(results[i].addrs, was.addr)
		}
		now[host] = f
		if f.err != nil && was.err == nil {
			n.log.Warn("host name cannot be looked up", "host", host, "address", was.addr, "error", f.err)
		}
		changed = changed || !known || f.addr != was.addr
	}
	n.known = now
	return changed
}

// choose keeps the address of before while it is among those found: resolvers give
// several in any order. Else it takes the lowest, IPv4 first.
func choose(addrs []netip.Addr, last netip.Addr) netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, a.Unmap())
	}
	if slices.Contains(out, last) {
		return last
	}
	return slices.MinFunc(out, netip.Addr.Compare)
}

// hostsOf lists the host names among the service addresses, each once.
func hostsOf(all []*registration) (hosts []string) {
	for _, r := range all {
		if r.entry != nil && isHostName(r.entry.Service.Address) {
			hosts = append(hosts, r.entry.Service.Address)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// isHostName reports whether a text can be a host's name and is no address. A last
// label of digits only is a mistyped address.
func isHostName(text string) bool {
	if _, err := parseAddress(text); err == nil || text == "" || len(text) > 253 {
		return false
	}
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// lookUpNames looks the names of the newest answer up, again and again until ctx
// ends, and publishes what that changes.
func (w *watch) lookUpNames(ctx context.Context) {
	every := time.NewTicker(w.source.options.LookupInterval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-w.unknown:
		}
		w.mu.Lock()
		hosts := hostsOf(w.last.all)
		w.mu.Unlock()
		if w.names.refresh(ctx, hosts) && ctx.Err() == nil {
			w.republish(ctx)
		}
	}
}

// republish makes the newest answer known with the addresses of now. Where the rules
// change meanwhile, Consul is asked again anyway.
func (w *watch) republish(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rules := w.rules()
	listed, err := w.list(ctx, w.last.all, rules)
	if err != nil {
		return // the next lookup tries again, if anything is different then
	}
	s := w.source
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[w.service.origin()]
	now := w.service.answer(listed, w.last.index)
	if s.watches[w.service.origin()] != w || !slices.Equal(rules.Own, w.own) || !p.Known || now.Equal(p.said) {
		return
	}
	w.logChange(p.said, now)
	p.said, p.Service = now, w.service.placed(now)
	s.parts[w.service.origin()] = p
	s.merge(w.service)
	notify(s.claimed)
}

// answer is what a listing says of the service.
func (s Service) answer(l listing, index uint64) catalog.Service {
	return catalog.Service{Name: s.Backend, Known: true, Instances: l.instances, Untagged: l.untagged, Rejected: l.rejected, Claims: l.claims, Outputs: l.outputs, Index: index}
}
