package config

import (
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Frontend is one of HAProxy's frontends with routes to several services.
type Frontend struct {
	Name string // HAProxy's
	Bind []string
	Mode Mode

	RedirectHTTPS bool
	ALPN          []string      // of bind lines with TLS that name none
	HSTS          time.Duration // 0 sends no header
	Forwarded     Forwarded
	LogFormat     string // "" is HAProxy's httplog or tcplog
	Extra         []string

	Discover Discover // routes from Consul
	Routes   []Route  // as ordered in the file
	Default  string   // backend of the service that gets what no route matches; "" is none

	// See Config.With.
	Found   []route.Route
	Sources []string // of those
}

// Route is one route of a frontend.
type Route struct {
	Host    string // as given; a wildcard may be its first label; "" is every host
	SNI     string // the same in mode tcp
	Path    string // as given; "" is every path
	Service string // backend, or name of the service

	StripPrefix bool
	Methods     []string
	Headers     []string // each NAME or NAME: VALUE
}

// Forwarded is what becomes of X-Forwarded-For and X-Forwarded-Proto.
type Forwarded string

// The ways.
const (
	ForwardedReplace Forwarded = "replace"
	ForwardedAppend  Forwarded = "append"
	ForwardedOff     Forwarded = "off"
)

// Compiled returns the routes as HAProxy gets them: those of the settings, then those
// found in Consul. Load has refused what is not a route.
func (f Frontend) Compiled() []route.Route {
	out := make([]route.Route, 0, len(f.Routes))
	for _, r := range f.Routes {
		out = append(out, r.compiled())
	}
	return append(out, f.Found...)
}

func (r Route) compiled() (out route.Route) {
	if host := r.Host + r.SNI; host != "" {
		out.Host, _ = route.Host(host)
	}
	if r.Path != "" {
		out.Path, _ = route.Path(r.Path)
	}
	if r.StripPrefix {
		out.Strip = route.Segments(out.Path)
	}
	out.Backend, out.Methods = r.Service, r.Methods
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, parseHeader(h))
	}
	return out
}
