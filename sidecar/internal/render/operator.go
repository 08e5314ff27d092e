package render

import (
	"strconv"
	"strings"
)

// Operator returns the names of the servers that the operator's own lines
// declare in a backend, by the template or by backend_extra: all that are there
// while the service has no instance.
func (r *Renderer) Operator(backend string) []string { return r.operator[backend] }

// operatorServers returns the servers of a file without instances, by backend.
func operatorServers(empty []section) map[string][]string {
	out := map[string][]string{}
	for _, s := range empty {
		if names := s.servers(); s.kind == "backend" && len(names) > 0 {
			out[s.name] = names
		}
	}
	return out
}

// servers is the names that the server and server-template lines declare.
func (s section) servers() (names []string) {
	for _, d := range s.directives() {
		switch {
		case len(d.words) < 3:
		case d.words[0] == "server":
			names = append(names, d.words[1])
		case d.words[0] == "server-template":
			names = append(names, templateNames(d.words[1], d.words[2])...)
		}
	}
	return names
}

// maxTemplate bounds how many servers a server-template line may declare.
const maxTemplate = 10_000

// templateNames is the servers of `server-template PREFIX NUMBER|FROM-TO`.
func templateNames(prefix, numbers string) (names []string) {
	first, last, isRange := strings.Cut(numbers, "-")
	if !isRange {
		first, last = "1", numbers
	}
	from, errFrom := strconv.Atoi(first)
	to, errTo := strconv.Atoi(last)
	if errFrom != nil || errTo != nil {
		return nil // HAProxy refuses it
	}
	for n := from; n <= to && len(names) < maxTemplate; n++ {
		names = append(names, prefix+strconv.Itoa(n))
	}
	return names
}
