package render

import (
	"fmt"
	"strconv"
	"strings"
)

// maxTemplate bounds how many servers one server-template line of the operator
// may declare.
const maxTemplate = 10_000

// Operator returns the names of the servers that the operator's own lines
// declare in a backend, by the template or by backend_extra: all that are there
// while the service has no instance.
func (r *Renderer) Operator(backend string) []string { return r.operator[backend] }

// readOperator reads a file without instances: which servers are the operator's,
// and whether a default-server line would set the servers of the file apart from
// those added at runtime, which it does not reach.
func (r *Renderer) readOperator(empty []byte) error {
	r.operator = map[string][]string{}
	inFile := map[string]bool{}
	for _, s := range r.settings.Services {
		inFile[s.Backend] = s.InFile
	}
	// A defaults section is for all sections up to the next; one with a name may
	// be for others as well.
	byDefaults, below := map[string]string{}, ""
	for _, s := range sections(empty) {
		if s.kind == "defaults" {
			below = s.defaultServer()
			byDefaults[s.name] = below
			continue
		}
		addsServers, isOurs := inFile[s.name]
		addsServers = !addsServers
		if s.kind != "backend" || !isOurs {
			continue
		}
		r.operator[s.name] = s.servers()
		place := s.defaultServer()
		if place == "" {
			place = below
			if from, named := s.from(); named {
				place = byDefaults[from]
			}
		}
		if addsServers && place != "" {
			return fmt.Errorf("render: %s: a default-server line does not reach the servers that are added to backend %s at runtime; "+
				"put its words into server_options, or keep all servers in haproxy.cfg by slots.force: true", place, s.name)
		}
	}
	return nil
}

// from is the named defaults section that a section says it takes.
func (s section) from() (name string, named bool) {
	words := strings.Fields(s.lines[0])
	if len(words) > 3 && words[2] == "from" {
		return words[3], true
	}
	return "", false
}

// defaultServer tells where the section has a default-server line; "" if it has
// none.
func (s section) defaultServer() string {
	for n, line := range s.lines {
		if keywordOf(line) == "default-server" {
			return fmt.Sprintf("line %d of the rendered file, in %s", s.first+n, strings.TrimSpace(s.lines[0]))
		}
	}
	return ""
}

// servers is the names that the server and server-template lines declare.
func (s section) servers() (names []string) {
	for _, line := range s.lines {
		words := strings.Fields(line)
		switch {
		case len(words) < 3:
		case keywordOf(line) == "server":
			names = append(names, words[1])
		case keywordOf(line) == "server-template":
			names = append(names, templateNames(words[1], words[2])...)
		}
	}
	return names
}

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

// keywordOf is the first word of a line as HAProxy reads it: it takes quotes and
// backslashes out (configuration manual, 2.2).
func keywordOf(line string) string {
	words := strings.Fields(line)
	if len(words) == 0 {
		return ""
	}
	return strings.NewReplacer(`"`, "", `'`, "", `\`, "").Replace(words[0])
}
