package discover

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
	"go.uber.org/zap"
)

// take makes the instances that pass the targets, and reports whether these
// are others than before.
func (w *Watch) take(entries []*api.ServiceEntry) (changed bool) {
	next := map[string]*url.URL{}
	refused := map[string]bool{}
	for _, e := range entries {
		if e == nil || e.Service == nil || e.Node == nil {
			continue // not of Consul's making
		}
		u, err := w.target(e)
		if err != nil {
			refused[e.Service.ID] = true
			if !w.refused[e.Service.ID] {
				w.log.Warn("invalid instance ignored", zap.String("id", e.Service.ID), zap.Error(err))
			}
			continue
		}
		next[u.String()] = u
	}
	w.refused = refused
	if !w.any(next) || !w.transitions(next) {
		return false
	}
	w.known = next
	return true
}

// any reports whether there is a target, and logs when there no longer is one
// and when there is again.
func (w *Watch) any(next map[string]*url.URL) bool {
	empty := len(next) == 0
	switch {
	case empty == w.empty:
	case empty && len(w.known) > 0:
		w.log.Warn("no passing instances, keeping last known targets", zap.Strings("targets", slices.Sorted(maps.Keys(w.known))))
	case empty:
		w.log.Info("no passing instances, waiting")
	case len(w.known) > 0:
		w.log.Info("passing instances again", zap.Int("targets", len(next)))
	}
	w.empty = empty
	return !empty
}

// transitions logs who came and who left, and reports whether anybody did.
func (w *Watch) transitions(next map[string]*url.URL) (changed bool) {
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if w.known[name] == nil {
			changed = true
			w.log.Info("target added", zap.String("target", name), zap.Int("targets", len(next)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.known)) {
		if next[name] == nil {
			changed = true
			w.log.Info("target removed", zap.String("target", name), zap.Int("targets", len(next)))
		}
	}
	return changed
}

// target is where an instance is: its service's address, else its node's
// (API documentation, "List Service Instances for Service"). Any program that can
// register chooses both.
func (w *Watch) target(e *api.ServiceEntry) (*url.URL, error) {
	host := e.Service.Address
	if host == "" {
		host = e.Node.Address
	}
	if !isHost(host) {
		return nil, fmt.Errorf("address %.100q: neither an IP address nor a host's name", host)
	}
	if e.Service.Port < 1 || e.Service.Port > 65535 {
		return nil, fmt.Errorf("port %d: want 1 to 65535", e.Service.Port)
	}
	u := *w.path
	u.Scheme, u.Host = "http", net.JoinHostPort(host, strconv.Itoa(e.Service.Port))
	return &u, nil
}

func isHost(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == ""
	}
	illegal := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}
	return s != "" && len(s) <= 253 && strings.IndexFunc(s, illegal) < 0
}

func sorted(targets map[string]*url.URL) []*url.URL {
	out := make([]*url.URL, 0, len(targets))
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		out = append(out, targets[name])
	}
	return out
}
