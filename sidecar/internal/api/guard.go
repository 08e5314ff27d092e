package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Release releases what the guard holds of a service or a backend, and gives the
// servers. routed is false for a name that this load balancer does not route.
type Release func(ctx context.Context, name string) (servers []string, routed bool, err error)

// action is a handler of what changes something: it is POSTed to.
type action func(http.ResponseWriter, *http.Request)

func (a action) ServeHTTP(w http.ResponseWriter, r *http.Request) { a(w, r) }

// InvalidError is an error of the request itself: it is answered with 400.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

// act answers one who may change something with what do gives. A refusal is answered with
// the status refused, another error, which is Consul's or HAProxy's, with 503.
func act(w http.ResponseWriter, r *http.Request, byToken bool, refused int, do func(context.Context) (body any, isRefused bool, err error)) {
	if !mayAct(w, r, byToken) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), sidecarapi.ActionTimeout)
	defer cancel()
	body, isRefused, err := do(ctx)
	_, isInvalid := errors.AsType[*InvalidError](err)
	switch {
	case isInvalid:
		writeJSON(w, http.StatusBadRequest, problem{err.Error()})
	case isRefused:
		writeJSON(w, refused, problem{err.Error()})
	case err != nil:
		writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
	default:
		writeJSON(w, http.StatusOK, body)
	}
}

// isPlainFromElsewhere reports whether a request came to an address beyond loopback
// without TLS: its token could be read on the way.
func isPlainFromElsewhere(r *http.Request) bool {
	to, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !isFromSocket(r) && r.TLS == nil && (to == nil || !to.IP.IsLoopback())
}

// mayAct reports whether the one who asks may change something, and answers if not.
// That takes the bearer token or the Unix socket. byToken says that a token is
// asked for, so that a request that gets here has shown it. A client's certificate is
// not enough: HAProxy may have one of the same authority for its servers.
func mayAct(w http.ResponseWriter, r *http.Request, byToken bool) bool {
	switch {
	case http.NewCrossOriginProtection().Check(r) != nil:
		forbid(w, "request from another site's page refused")
	case !byToken && !isFromSocket(r):
		forbid(w, "an action needs the Unix socket (api.socket) or the bearer token (api.token_file): docs/api.md")
	case isPlainFromElsewhere(r):
		forbid(w, "an action beyond loopback needs TLS (api.tls.cert_file): docs/api.md")
	default:
		return true
	}
	return false
}

// release answers /api/v1/guard/{service}/release.
func release(name string, byToken bool, let Release) action {
	return func(w http.ResponseWriter, r *http.Request) {
		service, ok := strings.CutSuffix(r.PathValue("rest"), "/release")
		if !ok || !isName(service) || strings.Contains(service, "/") {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/guard/{service}/release"})
			return
		}
		act(w, r, byToken, http.StatusNotFound, func(ctx context.Context) (any, bool, error) {
			servers, routed, err := let(ctx, service)
			if !routed {
				err = errors.New("service not routed by this load balancer")
			}
			return sidecarapi.Released{LoadBalancer: name, Service: service, Servers: servers}, !routed, err
		})
	}
}
