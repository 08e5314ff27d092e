package render

import (
	"fmt"
	"slices"
	"strings"
)

// isAbout reports whether an alert is about the operator's own file: it has its
// place there, or names a proxy of it, such as one whose backend is missing.
func isAbout(words, base string) bool {
	if base == "" {
		return false
	}
	content, _ := ReadRegular(base) // one that cannot be read is named with its path
	names := Proxies(content)
	for line := range strings.Lines(words) {
		if !strings.HasPrefix(line, "[ALERT]") {
			continue
		}
		if strings.Contains(line, base+":") {
			return true
		}
		m := placeByName.FindStringSubmatch(line)
		if len(m) == 2 && slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, " "+m[1]) }) {
			return true
		}
	}
	return false
}

// ListenersOf returns what the lines of a haproxy.cfg listen on.
func ListenersOf(content []byte) []Listener { return listenersOf(sections(content)) }

// BaseLacks returns the lines that an operator's own haproxy.cfg should have so
// that no request is lost, and has not: in include mode they are the operator's.
func (r *Renderer) BaseLacks(base []byte) (lacks []string) {
	all := sections(base)
	inGlobal := func(words ...string) bool {
		return slices.ContainsFunc(all, func(s section) bool { return s.kind == "global" && s.has(words...) })
	}
	if !slices.ContainsFunc(all, section.hasAdminSocket) {
		lacks = append(lacks, fmt.Sprintf("global: stats socket %s mode %s level admin expose-fd listeners", r.settings.RuntimeSocket, r.settings.SocketMode))
	}
	if !inGlobal("hard-stop-after") {
		lacks = append(lacks, "global: hard-stop-after "+ms(r.settings.HardStopAfter))
	}
	for _, p := range proxiesOf(all, "frontend", "listen") {
		if p.isHTTP() && slices.ContainsFunc(p.leadsTo(), r.has) && !p.has("option", "idle-close-on-response") {
			lacks = append(lacks, p.kind+" "+p.name+": option idle-close-on-response")
		}
	}
	return lacks
}

// hasAdminSocket reports whether a global section has a runtime socket by which
// HAProxy can be changed, and which hands its listeners to the next worker.
func (s section) hasAdminSocket() bool {
	return s.kind == "global" && slices.ContainsFunc(s.directives(), func(d directive) bool {
		w := d.words
		level, fds := slices.Index(w, "level"), slices.Index(w, "expose-fd")
		return len(w) > 2 && w[0] == "stats" && w[1] == "socket" &&
			level > 0 && level+1 < len(w) && w[level+1] == "admin" && fds > 0 && slices.Contains(w[fds:], "listeners")
	})
}
