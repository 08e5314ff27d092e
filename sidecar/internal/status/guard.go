package status

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Release lets go what the guard holds of a service, and gives the servers.
// routed is false for a service that this load balancer does not route.
type Release func(ctx context.Context, service string) (servers []string, routed bool, err error)

// releaseTimeout bounds how long the agent may take to get round to it.
const releaseTimeout = 15 * time.Second

// action is a handler of what changes something: it is POSTed to.
type action struct{ http.Handler }

// Released is the body of /api/v1/guard/{service}/release.
type Released struct {
	LoadBalancer string   `json:"load_balancer"`
	Service      string   `json:"service"`
	Servers      []string `json:"released"` // HAProxy's names
}

// release answers /api/v1/guard/{service}/release. restricted says that who
// gets here has shown credentials; anybody else must be on this machine.
func release(name string, restricted bool, let Release) action {
	return action{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service, ok := strings.CutSuffix(r.PathValue("rest"), "/release")
		switch {
		case !ok || !isName(service) || strings.Contains(service, "/"):
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/guard/{service}/release"})
			return
		case http.NewCrossOriginProtection().Check(r) != nil:
			writeJSON(w, http.StatusForbidden, problem{"not from another site's page"})
			return
		case !restricted && !isLocal(r):
			writeJSON(w, http.StatusForbidden, problem{"without access control (docs/api.md) only a program on this machine may change something, by way of its loopback address"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), releaseTimeout)
		defer cancel()
		servers, routed, err := let(ctx, service)
		switch {
		case !routed:
			writeJSON(w, http.StatusNotFound, problem{"this load balancer does not route the service"})
		case err != nil:
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			writeJSON(w, http.StatusOK, Released{LoadBalancer: name, Service: service, Servers: servers})
		}
	})}
}

// isLocal reports whether a program on this machine asks: over loopback, for a
// loopback name, so that no page in a browser can by a name of its own, and
// not on behalf of somebody else.
func isLocal(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.IsLoopback()
}
