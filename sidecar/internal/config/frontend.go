package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
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
		out.Host, _ = route.ParseHost(host)
	}
	if r.Path != "" {
		out.Path, _ = route.ParsePath(r.Path)
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

// frontendSettings is the table of the settings of one frontend, except its
// routes. They stand in the file only.
func frontendSettings() []setting[Frontend] {
	return append([]setting[Frontend]{
		{
			key: "name", derived: "required",
			doc: "Name of the frontend in HAProxy.",
			at:  func(f *Frontend) value { return text{&f.Name, "name", name} },
		},
		{
			key: "bind", def: "[]", derived: "required",
			doc: "HAProxy `bind` addresses, such as `*:80` or `*:443 ssl crt /etc/haproxy/certs`.",
			at:  func(f *Frontend) value { return listOf(&f.Bind, "bind line", bind) },
		},
		{
			key: "mode", def: "http",
			doc: "HAProxy `mode`. In mode tcp, routes have `sni` only, and HAProxy passes TLS through.",
			at:  func(f *Frontend) value { return oneOf(&f.Mode, HTTP, TCP) },
		},
		{
			key: "redirect_https", def: "false",
			doc: "Answer requests without TLS with a redirect (301) to `https://`. Mode http only.",
			at:  func(f *Frontend) value { return yesNo{&f.RedirectHTTPS} },
		},
		{
			key: "alpn", def: "[h2, http/1.1]",
			doc: "Protocols that HAProxy offers on `bind` lines with `ssl` and without `alpn` of their own. `[http/1.1]` disables HTTP/2. Mode http only.",
			at: func(f *Frontend) value {
				return list{p: &f.ALPN, what: "list of `h2` and `http/1.1`", item: alpn}
			},
		},
		{
			key: "hsts", def: "0s",
			doc: "`max-age` of the `Strict-Transport-Security` header on responses over TLS, such as `8760h` for a year. 0s sends no header. Mode http only.",
			at:  func(f *Frontend) value { return span{&f.HSTS, 0, 10 * 366 * 24 * time.Hour} },
		},
		{
			key: "forwarded", def: "replace",
			doc: "What the service gets as `X-Forwarded-For` and `X-Forwarded-Proto`. `replace`: the client's address and `http` or `https`, in place of what the client sent. `append`: the address after those that the client sent, and the client's protocol if it sent one, for a load balancer behind another proxy. `off`: what the client sent. Mode http only.",
			at: func(f *Frontend) value {
				return oneOf(&f.Forwarded, ForwardedReplace, ForwardedAppend, ForwardedOff)
			},
		},
		{
			key: "log_format", derived: "HAProxy's `httplog` or `tcplog`",
			doc: "HAProxy `log-format` of the access log, which goes where `haproxy.log` says.",
			at:  func(f *Frontend) value { return text{&f.LogFormat, "text", orEmpty(logFormat)} },
		},
		{
			key: "extra", def: "[]",
			doc: "Additional lines of the frontend. They stand before the redirect and the routes.",
			at:  func(f *Frontend) value { return extra(&f.Extra) },
		},
		{
			key: "default", derived: "none",
			doc: "Service that gets the requests that no route matches. Without it they get 404 with a text that names this load balancer; in mode tcp the connection is closed.",
			at:  func(f *Frontend) value { return text{&f.Default, "name", orEmpty(name)} },
		},
	}, discoverSettings()...)
}

// routeSettings is the table of the settings of one route.
func routeSettings() []setting[Route] {
	return []setting[Route]{
		{
			key: "host", derived: "every host",
			doc: "Host of the requests: exact, or `*.example.com` for every host below `example.com`. Mode http only.",
			at:  func(r *Route) value { return text{&r.Host, "host name", orEmpty(routeHost)} },
		},
		{
			key: "sni", derived: "every name",
			doc: "Server name that the client asks for in TLS, exact or `*.example.com`. Mode tcp only.",
			at:  func(r *Route) value { return text{&r.SNI, "host name", orEmpty(routeHost)} },
		},
		{
			key: "path", derived: "every path",
			doc: "Prefix of the path, in whole segments: `/v1` matches `/v1`, `/v1/` and `/v1/x`, not `/v10`. Of several that match, the longest counts. Mode http only.",
			at:  func(r *Route) value { return text{&r.Path, "path in a URL", orEmpty(routePath)} },
		},
		{
			key: "service", derived: "required",
			doc: "Service that gets the requests: its `backend`, or its name.",
			at:  func(r *Route) value { return text{&r.Service, "name", name} },
		},
		{
			key: "strip_prefix", def: "false",
			doc: fmt.Sprintf("Take `path` off the path that the service gets. At most %d segments.", route.MaxStrip),
			at:  func(r *Route) value { return yesNo{&r.StripPrefix} },
		},
		{
			key: "methods", def: "[]",
			doc: "Methods, of which the request must have one. They choose among the routes of one host and path. Mode http only.",
			at:  func(r *Route) value { return listOf(&r.Methods, "method", method) },
		},
		{
			key: "headers", def: "[]",
			doc: "Header fields that the request must have, all of them: `NAME` with any value, or `NAME: VALUE` with exactly this one. They choose among the routes of one host and path. Mode http only.",
			at:  func(r *Route) value { return listOf(&r.Headers, "`NAME` or `NAME: VALUE`", headerField) },
		},
	}
}

func routeHost(s string) error { _, err := route.ParseHost(s); return err }
func routePath(s string) error { _, err := route.ParsePath(s); return err }

func alpn(s string) error {
	if s != "h2" && s != "http/1.1" {
		return errors.New("must be h2 or http/1.1")
	}
	return nil
}

// logFormat passes what stands between single quotes, in which HAProxy takes
// everything as it is.
func logFormat(s string) error {
	if strings.Contains(s, "'") {
		return fmt.Errorf("must not contain the character %q", '\'')
	}
	return oneLine(s)
}

// isToken reports whether a text is a token of HTTP (RFC 9110, 5.6.2), without
// the characters that HAProxy's file would take otherwise.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

func method(s string) error {
	if !isToken(s) || s != strings.ToUpper(s) || s[0] == '-' { // HAProxy's flags begin with it
		return errors.New("must be a method in capitals, such as GET")
	}
	return nil
}

func headerField(s string) error {
	field, value, hasValue := strings.Cut(s, ":")
	if !isToken(field) {
		return errors.New("must be NAME or NAME: VALUE, and NAME may contain only letters, digits, '-', '_' and '.'")
	}
	switch value = strings.TrimSpace(value); {
	case hasValue && value == "":
		return errors.New("has no value after the ':'")
	case value == "}":
		return errors.New("must not be \"}\", with which HAProxy ends a condition")
	}
	return plainWords(s)
}

// parseHeader reads what headerField has passed.
func parseHeader(s string) route.Header {
	field, value, _ := strings.Cut(s, ":")
	return route.Header{Name: field, Value: strings.TrimSpace(value)}
}

// frontendRelations reports what is wrong with frontends beside their services.
func (l *loader) frontendRelations() {
	if len(l.cfg.Frontends) > 0 {
		l.mapsBeside("frontends", frontendsKey)
	}
	names := map[string]bool{}
	for _, s := range l.cfg.Services {
		names[s.Backend], names[s.Backend+".front"] = true, true
		names[s.Backend+PreviewSuffix] = names[s.Backend+PreviewSuffix] || s.Preview.Enabled
	}
	for i := range l.cfg.Frontends {
		f, key := &l.cfg.Frontends[i], l.frontendKeys[i]
		switch {
		case f.Name == "":
			l.conflict("required", "", key+".name", key)
		case names[f.Name]:
			l.conflict("is already the name of a backend or frontend, and HAProxy 3.3 and newer need another name", f.Name, key+".name", key)
		case strings.HasPrefix(f.Name, "pointsman.") || f.Name == "statistics":
			l.conflict("is reserved for Pointsman in haproxy.cfg", f.Name, key+".name", key)
		}
		names[f.Name] = true
		if len(f.Bind) == 0 {
			l.conflict("required", "", key+".bind", key)
		}
		if base := l.cfg.HAProxy.BaseConfig; base != "" {
			l.conflict("must not be set with haproxy.base_config: write the frontend there", f.Name, key+".name", key)
		}
		if f.Mode == TCP {
			l.onlyHTTP(key, f)
		}
		if f.Default != "" {
			f.Default = l.routeTarget(f.Default, f.Mode, key+".default", key)
		}
		l.routeRelations(f, key)
		l.discoverRelations(f, key)
	}
}

// mapsBeside reports a path of haproxy.cfg beside which there can be no map files. because is
// the setting that has them, and key its key.
func (l *loader) mapsBeside(because, key string) {
	at := l.cfg.HAProxy.Config
	if whole, err := filepath.Abs(at); err == nil {
		at = whole
	}
	if strings.ContainsFunc(at, unfitForMap) {
		l.conflict("may contain only letters, digits, '/', '-', '_' and '.' with "+because+": HAProxy's rules name the map files beside it", at, "haproxy.config", key)
	}
}

// unfitForMap reports whether a character of a path would end it in a rule of
// haproxy.cfg, or on the runtime socket.
func unfitForMap(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/-_.", r)
}

// onlyHTTP reports what mode tcp can't have.
func (l *loader) onlyHTTP(key string, f *Frontend) {
	for _, k := range []struct {
		key string
		set bool
	}{
		{"redirect_https", f.RedirectHTTPS},
		{"hsts", f.HSTS != 0},
		{"alpn", !slices.Equal(f.ALPN, []string{"h2", "http/1.1"})},
		{"forwarded", f.Forwarded != ForwardedReplace},
	} {
		if k.set {
			l.conflict("needs mode http", "", key+"."+k.key, key+".mode")
		}
	}
}

// routeRelations reports routes that can't be, and gives the others their backend.
func (l *loader) routeRelations(f *Frontend, frontend string) {
	seen := map[string]string{} // the key of the route, by what it matches
	for i := range f.Routes {
		r := &f.Routes[i]
		key := fmt.Sprintf("%s.routes[%d]", frontend, i)
		if r.Service == "" {
			l.conflict("required", "", key+".service", key)
			continue
		}
		r.Service = l.routeTarget(r.Service, f.Mode, key+".service", key)
		switch {
		case f.Mode == TCP && (r.Host != "" || r.Path != "" || r.StripPrefix || len(r.Methods)+len(r.Headers) > 0):
			l.conflict("may have only sni and service in a frontend of mode tcp", "", key, frontend+".mode")
		case f.Mode == HTTP && r.SNI != "":
			l.conflict("needs a frontend of mode tcp: write host", r.SNI, key+".sni", key)
		}
		c := r.compiled()
		if c.Strip > route.MaxStrip {
			l.conflict(fmt.Sprintf("can take off %d segments at most", route.MaxStrip), r.Path, key+".strip_prefix", key)
		}
		if r.StripPrefix && c.Strip == 0 {
			l.conflict("needs path", "", key+".strip_prefix", key)
		}
		what := fmt.Sprintf("%s %q %q", c.Key(), c.Methods, c.Headers)
		if other, again := seen[what]; again {
			l.conflict("matches the same requests as "+other, c.String(), key, frontend)
		}
		seen[what] = key
	}
}

// routeTarget finds the backend of a service that a route or a default names.
func (l *loader) routeTarget(named string, mode Mode, key, parent string) string {
	services := l.cfg.Services
	i := slices.IndexFunc(services, func(s Service) bool { return s.Backend == named })
	if i < 0 {
		if i = slices.IndexFunc(services, func(s Service) bool { return s.isPreviewOf(named) }); i >= 0 && mode == HTTP {
			return named
		}
	}
	if i < 0 {
		for k, s := range services {
			if s.Name != named {
				continue
			}
			if i >= 0 {
				l.conflict("is the name of several services: write the backend of one", named, key, parent)
				return named
			}
			i = k
		}
	}
	switch {
	case i < 0:
		l.conflict("is no service of the settings", named, key, parent, servicesKey)
		return named
	case services[i].Mode != mode:
		l.conflict(fmt.Sprintf("is in mode %s, the frontend in mode %s", services[i].Mode, mode), named, key, parent, l.prefixes[i]+".mode")
	}
	return services[i].Backend
}
