package render

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// checkTemplate looks through what a template has rendered for what HAProxy
// accepts and a service must not have. Other proxies are the operator's.
func (r *Renderer) checkTemplate(rendered []byte) error {
	var errs []error
	for _, p := range proxies(rendered) {
		if !r.has(p.name) {
			continue
		}
		for _, err := range []error{checkRetries(p), r.checkDefaultServer(p), checkNames(p)} {
			if err != nil {
				errs = append(errs, fmt.Errorf("render: template %s: %s %s: %w", r.tmpl.Name(), p.kind, p.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// checkPrinted refuses a template that leaves out the backend of a service, or its
// servers. empty is the file without servers. HAProxy would lack them after each reload.
func (r *Renderer) checkPrinted(empty []byte) error {
	probe := plan.FileServer{Name: "pointsman.probe", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), 9), Weight: 1}
	backends := make([]plan.FileBackend, 0, len(r.settings.Services))
	for _, s := range r.settings.Services {
		backends = append(backends, plan.FileBackend{Backend: s.Backend, Servers: []plan.FileServer{probe}})
	}
	filled, err := r.Render(backends)
	if err != nil {
		return err
	}
	prints := func(file []byte, backend string, is func(proxy) bool) bool {
		return slices.ContainsFunc(proxies(file), func(p proxy) bool { return p.name == backend && is(p) })
	}
	var errs []error
	for _, f := range r.settings.Frontends {
		if !slices.ContainsFunc(sections(empty), func(s section) bool { return s.kind == "frontend" && s.name == f.Name }) {
			errs = append(errs, fmt.Errorf("render: template %s: it prints no `frontend %s`: add a `frontend {{.Name}}` for each of .Frontends, with {{range .Rules}}; see docs/template.md", r.tmpl.Name(), f.Name))
		}
	}
	for _, s := range r.settings.Services {
		switch {
		case !prints(empty, s.Backend, func(proxy) bool { return true }):
			errs = append(errs, fmt.Errorf("render: template %s: it prints no `backend %s`: add a `backend {{.Backend}}` for each of .Services, also while it has no servers; see docs/template.md", r.tmpl.Name(), s.Backend))
		case !prints(filled, s.Backend, func(p proxy) bool { return slices.Contains(p.servers(), probe.Name) }):
			errs = append(errs, fmt.Errorf("render: template %s: backend %s: it does not print the service's servers: add {{range .Servers}} and {{.}} to the backend; see docs/template.md", r.tmpl.Name(), s.Backend))
		}
	}
	return errors.Join(errs...)
}

// retryGuard is the line without which retry-on repeats a POST too.
const retryGuard = "http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE TRACE }"

// checkRetries refuses a backend that sends again what may not be repeated: a
// server that closes without an answer may have done it.
func checkRetries(p proxy) error {
	retry, ok := p.effective("retry-on")
	if !ok || !p.isHTTP() || !repeatsRequests(retry.words[1:]) || p.has("http-request", "disable-l7-retry") {
		return nil
	}
	return fmt.Errorf("line %d of the rendered file, %q: it repeats requests that must not be sent twice, such as POST; add to the %s: %s",
		retry.line, retry.text(), p.kind, retryGuard)
}

// checkDefaultServer refuses options that the servers of the file would have and
// those added at runtime would not.
func (r *Renderer) checkDefaultServer(p proxy) error {
	line, ok := p.effective("default-server")
	if !ok || slices.ContainsFunc(r.settings.Services, func(s Service) bool { return s.Backend == p.name && s.InFile }) {
		return nil
	}
	return fmt.Errorf("line %d of the rendered file, %q: HAProxy does not apply it to servers added at runtime; "+
		"put its words into server_options, or keep all servers in haproxy.cfg by slots.force: true", line.line, line.text())
}

// checkNames refuses servers of the operator that could not be told from the
// service's own.
func checkNames(p proxy) error {
	for _, name := range p.servers() {
		if strings.ContainsAny(name, "$") {
			return fmt.Errorf("server %q: a name with a variable is not supported; write it out", name)
		}
	}
	return nil
}

// repeatsRequests reports whether retry-on has more than what comes before a
// request is sent (configuration manual, "retry-on").
func repeatsRequests(on []string) bool {
	return slices.ContainsFunc(on, func(w string) bool { return w != "none" && w != "conn-failure" })
}
