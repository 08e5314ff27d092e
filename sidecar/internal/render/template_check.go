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
func (r *Renderer) checkTemplate(rendered []section) error {
	var errs []error
	if name := localPeerOf(rendered); len(r.settings.Peers) > 0 && name != r.settings.Peers[0].Name {
		errs = append(errs, fmt.Errorf("render: template %s: localpeer %s: it is set by haproxy.peers.address; remove the line", r.tmpl.Name(), name))
	}
	inFile := make(map[string]bool, len(r.settings.Services)) // whether their servers are, by backend
	for _, k := range r.kept {
		inFile[k.backend] = false
	}
	for _, s := range r.settings.Services {
		inFile[s.Backend] = inFile[s.Backend] || s.InFile
	}
	for _, p := range proxies(rendered) {
		isInFile, isOurs := inFile[p.name]
		if !isOurs {
			continue
		}
		for _, err := range []error{checkRetries(p), checkPause(p), checkDefaultServer(p, isInFile), checkNames(p)} {
			if err != nil {
				errs = append(errs, fmt.Errorf("render: template %s: %s %s: %w", r.tmpl.Name(), p.kind, p.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// checkPrinted refuses a template that leaves out the backend of a service, or its
// servers: HAProxy would lack them after each reload. Or its lines: the service would be
// open to all, and nothing would tell. empty is the file without servers.
func (r *Renderer) checkPrinted(empty []section) error {
	probe := plan.FileServer{Name: "pointsman.probe", Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), 9), Weight: 1}
	backends := make([]plan.FileBackend, 0, len(r.settings.Services))
	for _, s := range r.settings.Services {
		backends = append(backends, plan.FileBackend{Backend: s.Backend, Servers: []plan.FileServer{probe}})
	}
	filled, err := r.Render(backends)
	if err != nil {
		return err
	}
	withServers := sections(filled)
	inEmpty, inFilled, lists := byName(proxies(empty)), byName(proxies(withServers)), listsOf(withServers)
	prints := func(all map[string][]proxy, backend string, is func(proxy) bool) bool {
		return slices.ContainsFunc(all[backend], is)
	}
	var errs []error
	for _, f := range r.settings.Frontends {
		if !slices.ContainsFunc(empty, func(s section) bool { return s.kind == "frontend" && s.name == f.Name }) {
			errs = append(errs, fmt.Errorf("render: template %s: it prints no `frontend %s`: add a `frontend {{.Name}}` for each of .Frontends, with {{range .Rules}}; see docs/template.md", r.tmpl.Name(), f.Name))
		}
	}
	for _, s := range r.settings.Services {
		var lacks string
		hasLines := func(p proxy) bool { lacks = p.lacks(s.BackendExtra); return lacks == "" }
		switch {
		case !prints(inEmpty, s.Backend, func(proxy) bool { return true }):
			errs = append(errs, fmt.Errorf("render: template %s: it prints no `backend %s`: add a `backend {{.Backend}}` for each of .Services, also while it has no servers; see docs/template.md", r.tmpl.Name(), s.Backend))
		case !prints(inFilled, s.Backend, func(p proxy) bool { return slices.Contains(p.servers(), probe.Name) }):
			errs = append(errs, fmt.Errorf("render: template %s: backend %s: it does not print the service's servers: add {{range .Servers}} and {{.}} to the backend; see docs/template.md", r.tmpl.Name(), s.Backend))
		case !prints(inEmpty, s.Backend, hasLines) || !prints(inFilled, s.Backend, hasLines):
			errs = append(errs, fmt.Errorf("render: template %s: backend %s: it does not print the line `%s …` that the settings give it: add {{range .BackendExtra}} and {{.}} to the backend; see docs/template.md", r.tmpl.Name(), s.Backend, lacks))
		}
		for _, list := range listsIn(s.Bind) {
			if !slices.Contains(lists, list) {
				errs = append(errs, fmt.Errorf("render: template %s: it has no bind address with `crt-list %s`, the certificates of backend %s: add a frontend with {{range .Bind}} and bind {{.}}; see docs/template.md", r.tmpl.Name(), list, s.Backend))
			}
		}
	}
	return errors.Join(errs...)
}

func byName(all []proxy) map[string][]proxy {
	out := make(map[string][]proxy, len(all))
	for _, p := range all {
		out[p.name] = append(out[p.name], p)
	}
	return out
}

// lacks is the keyword of the first of some lines that is not in the proxy's section; ""
// if all are. The rest of the line may be a secret.
func (p proxy) lacks(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	has := make(map[string]bool, len(p.lines))
	for _, s := range p.all() {
		for _, line := range s.lines {
			has[strings.Join(strings.Fields(line), " ")] = true
		}
	}
	for _, line := range lines {
		if words := wordsOf(line); len(words) > 0 && !has[strings.Join(strings.Fields(line), " ")] {
			return words[0]
		}
	}
	return ""
}

// listsOf is the lists of certificates that the bind lines of a file load.
func listsOf(file []section) (lists []string) {
	for _, s := range file {
		for _, d := range s.directives() {
			if d.words[0] == "bind" {
				lists = append(lists, listsIn([]string{d.text()})...)
			}
		}
	}
	return lists
}

func listsIn(binds []string) (lists []string) {
	for _, line := range binds {
		words := wordsOf(line)
		if i := slices.Index(words, "crt-list"); i >= 0 && i+1 < len(words) {
			lists = append(lists, words[i+1])
		}
	}
	return lists
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

// checkPause refuses rules that come after those of a pause: the first of these is the last
// rule for each request of a service that is not paused.
func checkPause(p proxy) error {
	isRule := func(d directive) bool { return d.words[0] == "http-request" }
	ends := func(d directive) bool {
		return isRule(d) && d.words[1] == "allow" && strings.Contains(d.text(), MapFile("", PauseMap))
	}
	isOver := slices.ContainsFunc(p.defaults, func(s section) bool { return slices.ContainsFunc(s.directives(), ends) })
	for _, d := range p.directives() {
		switch {
		case !isRule(d):
		case ends(d):
			isOver = true
		case isOver && !strings.Contains(d.text(), pauseVariables):
			return fmt.Errorf("line %d of the rendered file, %q: it has no effect behind the rules of pause.max, which end those of the %s; print {{range .BackendExtra}} after it", d.line, d.text(), p.kind)
		}
	}
	return nil
}

// pauseVariables is what the names of the variables in the rules of a pause begin with.
const pauseVariables = "txn.pm_"

// checkDefaultServer refuses options that the servers of the file would have and
// those added at runtime would not.
func checkDefaultServer(p proxy, isInFile bool) error {
	line, ok := p.effective("default-server")
	if !ok || isInFile {
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
