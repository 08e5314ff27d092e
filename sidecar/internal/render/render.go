// Package render makes haproxy.cfg: the operator's settings, a template and
// the servers of a plan become bytes, and the bytes become a file that HAProxy
// has found valid, by one rename.
//
// Its invariant: what it renders holds the complete state with literal
// addresses, and the file at the path is always a whole one.
package render

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"text/template"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Header is the first line of every file that we wrote.
const Header = "# Written by Pointsman. Manual changes are overwritten; see docs/template.md."

// Renderer renders one template with one set of settings.
type Renderer struct {
	tmpl     *template.Template
	text     string // of the template
	settings Settings
	kept     []kept // services of before that stand in for those of the settings
	marker   plan.Marker
	operator map[string][]string // see Operator
	apart    map[string]string   // see withoutProfiles

	listeners []Listener // see Listeners

	last  atomic.Pointer[rendered]
	lines atomic.Pointer[map[string]serverLines] // by backend, of the last content; a map is not changed
}

// rendered is a content that was made from a model of the file.
type rendered struct {
	backends []plan.FileBackend
	content  []byte
}

// serverLines is the servers of one backend as they stand in the file, each on a line.
type serverLines struct {
	of      plan.FileBackend
	options string
	text    string
}

// New parses the template, which name is the path of, for errors. It also
// renders it once, so that a template that asks for what is not there, or has
// what a service must not have, fails here and not in the middle of a deployment.
func New(name, text string, settings Settings) (*Renderer, error) {
	tmpl, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"ms": ms, "join": strings.Join}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("render: template: %w", err)
	}
	r := &Renderer{tmpl: tmpl, text: text, settings: settings}
	empty, err := r.render(nil) // not kept: it lacks the marker
	if err != nil {
		return nil, err
	}
	printed := sections(empty)
	if r.apart = r.settings.withoutProfiles(printed); len(r.apart) > 0 {
		if empty, err = r.render(nil); err != nil {
			return nil, err
		}
		printed = sections(empty)
	}
	if r.marker, err = marker(text, r.settings); err != nil {
		return nil, err
	}
	r.operator = operatorServers(printed)
	r.listeners = listenersOf(printed)
	if err := errors.Join(r.checkTemplate(printed), r.checkPrinted(printed)); err != nil {
		return nil, err
	}
	return r, nil
}

// copied returns a Renderer of the same settings, of which what needs no check may be
// changed.
func (r *Renderer) copied() *Renderer {
	out := &Renderer{
		tmpl: r.tmpl, text: r.text, settings: r.settings, kept: r.kept,
		marker: r.marker, operator: r.operator, apart: r.apart, listeners: r.listeners,
	}
	out.lines.Store(r.lines.Load())
	return out
}

// WithRoutes returns a Renderer of the same settings with other tables of the frontends, by
// name, and with what was found now. Only those routes may differ that the runtime can change,
// which are not conditional; so it has the same marker and needs no check.
func (r *Renderer) WithRoutes(tables map[string]route.Table, found route.Found) *Renderer {
	out := r.copied()
	out.settings.Found = found
	out.settings.Frontends = slices.Clone(r.settings.Frontends)
	for i := range out.settings.Frontends {
		f := &out.settings.Frontends[i]
		f.table = tables[f.Name]
	}
	return out
}

// marker digests all that the file is made from but what the runtime can change:
// the servers, the routes in the maps, and backends that have a defaults section.
func marker(text string, s Settings, before ...kept) (plan.Marker, error) {
	s.Services = slices.DeleteFunc(append([]Service{}, s.Services...), func(s Service) bool { return s.Defaults != "" })
	names := make([]string, 0, len(s.Services)+len(before))
	for _, svc := range s.Services {
		names = append(names, svc.Backend)
	}
	for _, k := range before {
		names = append(names, k.backend)
	}
	slices.Sort(names)
	s.Frontends = withoutRoutes(s.Frontends)
	settings, err := json.Marshal(s)
	if err != nil {
		return plan.Marker{}, fmt.Errorf("render: settings: %w", err)
	}
	options := make([]string, 0, len(s.Services))
	for _, svc := range s.Services {
		options = append(options, svc.Options())
	}
	for _, k := range before {
		options = append(options, k.text, k.options)
	}
	m := plan.Marker{
		Template: digest(text),
		Services: digest(names...),
		Settings: digest(append(options, string(settings))...),
	}
	if s.Owner.File != "" {
		m.Owner = digest(s.Owner.File)
	}
	return m, nil
}

// owner is the line that says whose file it is; "" where that is not known.
func (s Settings) owner() string {
	if s.Owner.File == "" {
		return ""
	}
	return fmt.Sprintf("    setenv %s '%s'\n", plan.OwnerVariable, s.Owner)
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Marker is what HAProxy will answer once it runs what this renders.
func (r *Renderer) Marker() plan.Marker { return r.marker }

// view is what a template sees.
type view struct {
	Settings
	Services  []serviceView
	Frontends []frontendView
	// Rotation is the whole server line of the backend by which the health
	// answer knows whether this load balancer is in rotation.
	Rotation string
}

// From is what a section of ours adds to its name so that the operator's
// defaults have no part in it, in include mode; else "".
func (v view) From() string {
	if v.Base == "" {
		return ""
	}
	return " from pointsman"
}

// Service finds a service by its name in Consul.
func (v view) Service(name string) (serviceView, error) {
	i := slices.IndexFunc(v.Services, func(s serviceView) bool { return s.Name == name })
	if i < 0 {
		return serviceView{}, fmt.Errorf("no service %q in the settings", name)
	}
	return v.Services[i], nil
}

type serviceView struct {
	Service
	// ServerLines is what Servers gives, each on a line of the file: for very many servers
	// a template takes long to print each by itself.
	ServerLines string

	servers []plan.FileServer
}

// Servers are whole lines.
func (s serviceView) Servers() (lines []string) {
	options := s.Options()
	for _, f := range s.servers {
		lines = append(lines, serverLine(f, options))
	}
	return lines
}

// Render returns the file for the servers. A service that backends has nothing
// of gets no servers. Neither backends nor the content may be changed afterwards: for
// the same servers as the last time, as when the file on disk is compared, it is the
// same content.
func (r *Renderer) Render(backends []plan.FileBackend) ([]byte, error) {
	if last := r.last.Load(); last != nil && plan.SameFile(last.backends, backends) {
		return last.content, nil
	}
	content, err := r.render(backends)
	if err == nil {
		r.last.Store(&rendered{backends, content})
	}
	return content, err
}

func (r *Renderer) render(backends []plan.FileBackend) ([]byte, error) {
	byName := make(map[string]plan.FileBackend, len(backends))
	for _, b := range backends {
		byName[b.Backend] = b
	}
	v := view{Settings: r.settings, Rotation: rotationLine(byName)}
	var before map[string]serverLines
	if last := r.lines.Load(); last != nil {
		before = *last
	}
	lines := make(map[string]serverLines, len(r.settings.Services))
	v.Services = make([]serviceView, 0, len(r.settings.Services))
	for _, s := range r.settings.Services {
		b, options := byName[s.Backend], s.Options()
		l, has := before[s.Backend]
		if !has || l.options != options || !l.of.Equal(b) {
			l = serverLines{b, options, serverText(b.Servers, options)}
		}
		lines[s.Backend] = l
		v.Services = append(v.Services, serviceView{Service: s, ServerLines: l.text, servers: b.Servers})
	}
	r.lines.Store(&lines)
	for _, f := range r.settings.Frontends {
		v.Frontends = append(v.Frontends, f.view(r.settings.MapPath))
	}
	var out bytes.Buffer
	if last := r.last.Load(); last != nil {
		out.Grow(len(last.content) + bytes.MinRead)
	}
	// A global section of its own, so that an operator's template need not
	// know of it: HAProxy merges them.
	fmt.Fprintf(&out, "%s\nglobal\n    setenv %s %s\n%s%s\n", Header, plan.MarkerVariable, r.marker, r.settings.owner(), r.settings.localPeer())
	if err := r.tmpl.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("render: template: %w", err)
	}
	if b := out.Bytes(); b[len(b)-1] != '\n' {
		// HAProxy refuses a last line without an end.
		out.WriteByte('\n')
	}
	out.WriteString(r.settings.peers() + r.settings.operatorSections())
	for _, p := range r.settings.Profiles {
		out.WriteString(p.preload())
	}
	for _, s := range r.settings.Services {
		if s.Defaults == "" {
			out.WriteString(s.preload() + s.Beside)
		}
	}
	writeRoutes(&out, r.settings.Frontends)
	r.writePauses(&out)
	writeFound(&out, r.settings.Found)
	for _, k := range r.kept {
		fmt.Fprintf(&out, "\n# Previous version: HAProxy rejects the current one.\n%s", k.text)
		for _, f := range byName[k.backend].Servers {
			fmt.Fprintf(&out, "    %s\n", serverLine(f, k.options))
		}
	}
	return out.Bytes(), nil
}

// rotationLine is in rotation where the plan does not say otherwise.
func rotationLine(backends map[string]plan.FileBackend) string {
	b, planned := backends[plan.RotationBackend]
	if !planned || len(b.Servers) == 0 {
		b = plan.RotationFile(false)
	}
	return serverLine(b.Servers[0], "")
}

// serverText is the servers as they stand in the file, each after the end of a line.
func serverText(servers []plan.FileServer, options string) string {
	b := make([]byte, 0, len(servers)*(64+len(options))) // a file may have tens of thousands
	for _, f := range servers {
		b = appendServer(append(b, "\n    "...), f, options)
	}
	return string(b)
}

func serverLine(f plan.FileServer, options string) string {
	return string(appendServer(nil, f, options))
}

func appendServer(b []byte, f plan.FileServer, options string) []byte {
	b = f.Addr.AppendTo(append(append(append(b, "server "...), f.Name...), ' '))
	if options != "" {
		b = append(append(b, ' '), options...)
	}
	number := func(keyword string, n int) { b = strconv.AppendInt(append(b, keyword...), int64(n), 10) }
	if f.AgentPort > 0 {
		number(" agent-port ", f.AgentPort) // instead of the one in the options
	}
	number(" weight ", f.Weight)
	if f.MaxConn > 0 {
		number(" maxconn ", f.MaxConn)
	}
	if f.Backup {
		b = append(b, " backup"...)
	}
	if f.Disabled {
		b = append(b, " disabled"...)
	}
	return b
}
