package render

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Frontend is a frontend with routes to several services.
type Frontend struct {
	Name         string
	Bind         []string
	Mode         string // http or tcp
	LoadBalancer string // its name, for the 404

	RedirectHTTPS bool
	ALPN          []string
	HSTS          time.Duration // 0 is none
	Forwarded     string        // replace, append or off
	LogFormat     string
	Extra         []string
	Default       string // backend of what no route matches; "" is none
	Routes        []route.Route
	Previews      []Preview `json:",omitempty"`

	table route.Table // in place of that of Routes; nil: none is
}

// lines are those of the frontend's map.
func (f Frontend) lines() route.Table {
	if f.table != nil {
		return f.table
	}
	m, _ := route.Compile(f.Routes)
	return m.Table()
}

// Preview is a backend from which some requests go to its preview backend.
type Preview struct {
	Backend    string
	Conditions []string // of which a request must meet one
}

// previewSuffix is what the name of a preview backend has after its service's.
const previewSuffix = ".preview"

// rules is the lines that lead there, if more holds as well. They let a request go on
// while no server there is up.
func (p Preview) rules(more string) (lines []string) {
	to := p.Backend + previewSuffix
	for _, c := range p.Conditions {
		lines = append(lines, fmt.Sprintf("use_backend %s if %s%s { nbsrv(%s) gt 0 }", to, more, c, to))
	}
	return lines
}

// PreviewRules is the lines of the service's own frontend that lead to its preview
// backend.
func (s Service) PreviewRules() []string { return Preview{s.Backend, s.Preview}.rules("") }

// frontendView is what a template sees.
type frontendView struct {
	Frontend
	Map string // path of its map file
}

func (f Frontend) view(mapPath string) frontendView {
	return frontendView{f, MapFile(mapPath, f.Name)}
}

// MapFile returns the path of the map of a frontend: beside haproxy.cfg, which the sidecar
// writes and HAProxy reads at the same path.
func MapFile(config, frontend string) string { return config + "." + frontend + ".map" }

// BindLines is the bind lines, with the protocols that TLS offers.
func (f frontendView) BindLines() []string {
	lines := make([]string, 0, len(f.Bind))
	for _, line := range f.Bind {
		words := strings.Fields(line)
		if f.Mode == "http" && len(f.ALPN) > 0 && slices.Contains(words, "ssl") && !slices.Contains(words, "alpn") && !slices.Contains(words, "no-alpn") {
			line += " alpn " + strings.Join(f.ALPN, ",")
		}
		lines = append(lines, line)
	}
	return lines
}

// Rules is the lines that find the backend of a request.
func (f frontendView) Rules() []string {
	if f.Mode == "tcp" {
		return f.tcpRules()
	}
	return f.httpRules()
}

func (f frontendView) httpRules() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	switch f.Forwarded {
	case "replace":
		add("http-request set-header X-Forwarded-For %%[src]")
		add("http-request set-header X-Forwarded-Proto https if { ssl_fc }")
		add("http-request set-header X-Forwarded-Proto http unless { ssl_fc }")
	case "append":
		add("option forwardfor")
		add("http-request set-header X-Forwarded-Proto https if { ssl_fc } !{ req.hdr(X-Forwarded-Proto) -m found }")
		add("http-request set-header X-Forwarded-Proto http if !{ ssl_fc } !{ req.hdr(X-Forwarded-Proto) -m found }")
	}
	if f.RedirectHTTPS {
		add("http-request redirect scheme https code 301 unless { ssl_fc }")
	}
	if f.HSTS > 0 {
		add(`http-after-response set-header Strict-Transport-Security "max-age=%d" if { ssl_fc }`, int64(f.HSTS/time.Second))
	}
	add("# The routes: exact host, wildcard, every host; the longest path (docs/routes.md).")
	add("http-request set-var(txn.pm_host) req.hdr(host),host_only,rtrim(.)")
	// Before 3.3 HAProxy takes a '/' in the Host header, which would move the border
	// between host and path.
	add(`http-request return status 400 content-type text/plain string "Invalid Host header.\n" if { var(txn.pm_host) -m sub / }`)
	add("http-request set-var(txn.pm_path) path")
	f.lookup(add, "http-request")
	for _, g := range f.groups() {
		for _, r := range g.Routes {
			add("http-request set-var(txn.pm_route) str(%s) if { var(txn.pm_route) -m str %s }%s", r.Value(), g.Value(), conditions(r))
		}
	}
	found := "{ var(txn.pm_route) -m found }"
	if len(f.groups()) > 0 {
		add("http-request unset-var(txn.pm_route) if { var(txn.pm_route) -m beg %s }", route.GroupPrefix)
	}
	add("http-request set-var(txn.pm_strip) var(txn.pm_route),field(2,/) if %s", found)
	for n := 1; n <= route.MaxStrip; n++ {
		add("http-request set-path /%%[path,field(%d,/,0)] if { var(txn.pm_strip) -m str %d }", n+2, n)
	}
	if f.Default == "" {
		add(`http-request return status 404 content-type text/plain string "No route for this host and path. This answer comes from load balancer %s, frontend %s, and not from a service.\n" unless %s`, f.LoadBalancer, f.Name, found)
	}
	for _, p := range f.Previews {
		lines = append(lines, p.rules("{ var(txn.pm_route),field(1,/) -m str "+p.Backend+" } ")...)
		if p.Backend == f.Default {
			lines = append(lines, p.rules("!"+found+" ")...)
		}
	}
	add("use_backend %%[var(txn.pm_route),field(1,/)] if %s", found)
	return lines
}

// lookup adds the looks into the map, which end with the first that finds something.
func (f frontendView) lookup(add func(string, ...any), rule string) {
	add("%s set-var(txn.pm_route) var(txn.pm_host),concat(,txn.pm_path,/),map_beg(%s)", rule, f.Map)
	const none = "!{ var(txn.pm_route) -m found }"
	from := "txn.pm_host"
	for range route.MaxLabels {
		add("%s set-var(txn.pm_below) var(%s),field(2,.,0) if %s", rule, from, none)
		add("%s set-var(txn.pm_route) str(*.),concat(,txn.pm_below),concat(,txn.pm_path,/),map_beg(%s) if %s { var(txn.pm_below) -m found }", rule, f.Map, none)
		from = "txn.pm_below"
	}
	add("%s set-var(txn.pm_route) str(*),concat(,txn.pm_path,/),map_beg(%s) if %s", rule, f.Map, none)
}

func (f frontendView) tcpRules() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("# The routes: exact server name of TLS, wildcard, every name (docs/routes.md).")
	add("tcp-request inspect-delay 5s")
	// The condition waits for the client's first message: HAProxy begins these rules
	// again when more of it arrives, and would keep what they found without the name.
	add("tcp-request content set-var(txn.pm_host) req.ssl_sni,lower,rtrim(.) if { req.ssl_sni -m found }")
	f.lookup(add, "tcp-request content")
	if f.Default == "" {
		add("tcp-request content reject if { req.ssl_hello_type 1 } !{ var(txn.pm_route) -m found }")
	}
	add("tcp-request content accept if { req.ssl_hello_type 1 }")
	add("use_backend %%[var(txn.pm_route),field(1,/)] if { var(txn.pm_route) -m found }")
	return lines
}

// conditions is what a route wants besides host and path.
func conditions(r route.Route) string {
	var out strings.Builder
	if len(r.Methods) > 0 {
		fmt.Fprintf(&out, " { method %s }", strings.Join(r.Methods, " "))
	}
	for _, h := range r.Headers {
		if h.Value == "" {
			fmt.Fprintf(&out, " { req.hdr(%s) -m found }", h.Name)
		} else {
			fmt.Fprintf(&out, ` { req.fhdr(%s) -m str -- '%s' }`, h.Name, h.Value)
		}
	}
	return out.String()
}

func (f Frontend) groups() []route.Group { return route.Groups(f.Routes) }

// The lines of haproxy.cfg that hold the routes, as comments: an operator who puts the file
// in place writes the map files from them. So one content says all, and whatever
// puts a file back puts its routes back.
const (
	mapLine   = "#map "   // FRONTEND
	routeLine = "#route " // KEY VALUE, of the map before
)

// writeRoutes adds the routes of the frontends.
func writeRoutes(out *bytes.Buffer, frontends []Frontend) {
	for _, f := range frontends {
		fmt.Fprintf(out, "\n# Routes of frontend %s. HAProxy reads them from the map file beside this file.\n%s%s\n", f.Name, mapLine, f.Name)
		for _, e := range f.lines() {
			for _, s := range []string{routeLine, e.Key, " ", e.Value, "\n"} { // there may be many
				out.WriteString(s)
			}
		}
	}
}

// mapsIn returns the frontends of which a haproxy.cfg has a map. It does not look at the
// routes: there may be many.
func mapsIn(content []byte) (frontends []string) {
	for begin := []byte("\n" + mapLine); ; {
		_, rest, found := bytes.Cut(content, begin)
		if !found {
			return frontends
		}
		name, _, _ := bytes.Cut(rest, []byte("\n"))
		frontends, content = append(frontends, string(bytes.TrimSpace(name))), rest
	}
}

// routesIn returns the contents of the map files that a haproxy.cfg is to have, by
// frontend.
func routesIn(content []byte) map[string][]byte {
	out := map[string][]byte{}
	frontend := ""
	for line := range bytes.Lines(content) {
		if name, is := bytes.CutPrefix(line, []byte(mapLine)); is {
			frontend = string(bytes.TrimSpace(name))
			out[frontend] = []byte(Header + "\n")
		}
		if words, is := bytes.CutPrefix(line, []byte(routeLine)); is && frontend != "" {
			out[frontend] = append(out[frontend], words...)
		}
	}
	return out
}

// hasFrontend reports whether a frontend is one of the settings.
func (r *Renderer) hasFrontend(name string) bool {
	return slices.ContainsFunc(r.settings.Frontends, func(f Frontend) bool { return f.Name == name })
}

// withoutRoutes returns the frontends with only those routes that rules of haproxy.cfg
// are made from.
func withoutRoutes(frontends []Frontend) []Frontend {
	out := slices.Clone(frontends)
	for i := range out {
		groups := out[i].groups()
		out[i].Routes = nil
		for _, g := range groups {
			out[i].Routes = append(out[i].Routes, g.Routes...)
		}
	}
	return out
}

// withoutPreview returns the services and frontends without the rules that lead to a
// preview backend that is not rendered.
func withoutPreview(services []Service, frontends []Frontend, backend string) ([]Service, []Frontend) {
	services, frontends = slices.Clone(services), slices.Clone(frontends)
	for i := range services {
		if services[i].Backend+previewSuffix == backend {
			services[i].Preview = nil
		}
	}
	for i := range frontends {
		isIt := func(p Preview) bool { return p.Backend+previewSuffix == backend }
		frontends[i].Previews = slices.DeleteFunc(slices.Clone(frontends[i].Previews), isIt)
	}
	return services, frontends
}

// withoutDefault returns the frontends without a default that is not rendered.
// HAProxy would reject the file.
func withoutDefault(frontends []Frontend, backend string) []Frontend {
	out := slices.Clone(frontends)
	for i := range out {
		if out[i].Default == backend {
			out[i].Default = ""
		}
	}
	return out
}
