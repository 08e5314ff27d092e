package api

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

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

// SetDrain puts a server in drain for an operator, or ends that, and gives the
// instance's own name for its server. isKnown is false for a service that this load
// balancer does not route, and for a server that the service does not have.
type SetDrain func(ctx context.Context, service, server string, on bool) (name string, isKnown bool, err error)

// operatorDrain answers /api/v1/server/{service}/{server}/drain and …/ready, to those
// who may release the guard.
func operatorDrain(name string, byToken bool, set SetDrain) action {
	return func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.PathValue("rest"), "/")
		if len(parts) != 3 || !isName(parts[0]) || !isName(parts[1]) || parts[2] != "drain" && parts[2] != "ready" {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/server/{service}/{server}/drain or …/ready"})
			return
		}
		act(w, r, byToken, http.StatusNotFound, func(ctx context.Context) (any, bool, error) {
			on := parts[2] == "drain"
			server, isKnown, err := set(ctx, parts[0], parts[1], on)
			return sidecarapi.OperatorDrain{LoadBalancer: name, Service: parts[0], Server: server, Drain: on}, !isKnown, err
		})
	}
}

// SetMaintenance takes this load balancer out of rotation or back, and returns once
// haproxy.cfg says so, too. isKnown is false where HAProxy has no health answer to change.
type SetMaintenance func(ctx context.Context, on bool) (isKnown bool, err error)

// Maintained is the body of /api/v1/maintenance/on and …/off.
type Maintained struct {
	LoadBalancer string `json:"load_balancer"`
	Maintenance  bool   `json:"maintenance"`
}

// maintenance answers /api/v1/maintenance/on and …/off, to those who may release the
// guard.
func maintenance(name string, byToken bool, set SetMaintenance) action {
	return func(w http.ResponseWriter, r *http.Request) {
		word := r.PathValue("rest")
		if word != "on" && word != "off" {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/maintenance/on or …/off"})
			return
		}
		act(w, r, byToken, http.StatusNotFound, func(ctx context.Context) (any, bool, error) {
			isKnown, err := set(ctx, word == "on")
			return Maintained{LoadBalancer: name, Maintenance: word == "on"}, !isKnown, err
		})
	}
}

// RequestReload makes a reload of HAProxy due for one who is named, and does not wait for
// it. isRefused is true where there is no HAProxy to reload.
type RequestReload func(ctx context.Context, by string) (is sidecarapi.ReloadRequest, isRefused bool, err error)

// maxBy bounds the name of one who asks for an action, in bytes.
const maxBy = 100

// reload answers /api/v1/reload, to those who may release the guard.
func reload(name string, byToken bool, request RequestReload) action {
	return func(w http.ResponseWriter, r *http.Request) {
		by := r.URL.Query().Get("by")
		if len(by) > maxBy {
			writeJSON(w, http.StatusBadRequest, problem{"by: longer than 100 bytes"})
			return
		}
		act(w, r, byToken, http.StatusConflict, func(ctx context.Context) (any, bool, error) {
			is, isRefused, err := request(ctx, cmp.Or(by, "API of "+name))
			is.LoadBalancer = name
			return is, isRefused, err
		})
	}
}

// ChangeRollout makes one of Options.RolloutChanges to the rollout of a service, in Consul, and gives
// the body of the answer. seen is when the rollout had last been changed that the client has
// seen; zero is any. isRefused is true where it has been changed since, and where the
// rollout does not allow the change as it is.
type ChangeRollout func(ctx context.Context, service, change string, seen time.Time) (body any, isRefused bool, err error)

// changeRollout answers /api/v1/rollouts/{service}/{change}, to those who may release the
// guard.
func changeRollout(byToken bool, changes []string, change ChangeRollout) action {
	return func(w http.ResponseWriter, r *http.Request) {
		service, what, _ := strings.Cut(r.PathValue("rest"), "/")
		if !isName(service) || !slices.Contains(changes, what) {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/rollouts/{service}/" + strings.Join(changes, " or …/")})
			return
		}
		var seen time.Time
		if text := r.URL.Query().Get("modified_at"); text != "" {
			var err error
			if seen, err = time.Parse(time.RFC3339Nano, text); err != nil {
				writeJSON(w, http.StatusBadRequest, problem{"modified_at: want that of the rollout's document, such as 2026-11-30T12:00:00.5Z"})
				return
			}
		}
		act(w, r, byToken, http.StatusConflict, func(ctx context.Context) (any, bool, error) {
			return change(ctx, service, what, seen)
		})
	}
}
