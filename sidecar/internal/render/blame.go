package render

import (
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The places that HAProxy names in an alert: `[FILE:LINE]`, `(FILE:LINE)`, or
// a section by its name.
var (
	placeInFile = regexp.MustCompile(`[\[(]([^\s\[\]()]+):([0-9]+)[\])]`)
	placeByName = regexp.MustCompile(`(?i)\b(?:proxy|backend|frontend) '([^'\s]+)'`)
)

// isSummary reports whether an alert only says that there were others.
func isSummary(alert string) bool {
	for _, s := range []string{"rror(s) found in configuration file", "Fatal errors found in configuration", "Some protocols failed to start their listeners"} {
		if strings.Contains(alert, s) {
			return true
		}
	}
	return false
}

// told is an error that has HAProxy's words.
type told interface {
	error
	Words() string
}

// Blame returns the backends whose sections are why HAProxy has rejected a
// content: those that its alerts name, sorted. It gives none unless every alert
// is about a section of one backend of ours; what else is wrong would stay so.
func (r *Renderer) Blame(content []byte, rejected error) (backends []string) {
	e, ok := errors.AsType[told](rejected)
	if !ok {
		return nil
	}
	file := "" // a running HAProxy may have the file under another name
	if e, ok := errors.AsType[*RejectedError](rejected); ok {
		file = strings.TrimSuffix(filepath.Base(e.Path), rejectedSuffix)
	}
	all := sections(content)
	unplaced := false
	for line := range strings.Lines(e.Words()) {
		if !strings.HasPrefix(line, "[ALERT]") || isSummary(line) {
			continue
		}
		if !placeInFile.MatchString(line) && !placeByName.MatchString(line) {
			unplaced = true // it goes with one that has a place: a file that cannot be loaded has both
			continue
		}
		owner := ""
		if s, found := blamed(all, line, file); found {
			owner = s.owner(r.has)
		}
		if owner == "" {
			return nil
		}
		if !slices.Contains(backends, owner) {
			backends = append(backends, owner)
		}
	}
	if unplaced && len(backends) == 0 {
		return nil
	}
	slices.Sort(backends)
	return backends
}

// blamed is the section that an alert is about. Where the file's name is not
// known, the alert has to name the section as well as the line.
func blamed(all []section, alert, file string) (section, bool) {
	if m := placeInFile.FindStringSubmatch(alert); len(m) == 3 && (file == "" || filepath.Base(m[1]) == file) {
		n, err := strconv.Atoi(m[2])
		i := slices.IndexFunc(all, func(s section) bool { return s.first <= n && n < s.first+len(s.lines) })
		if err != nil || i < 0 || file == "" && !strings.Contains(alert, " for "+all[i].kind+" "+all[i].name+":") {
			return section{}, false
		}
		return all[i], true
	}
	m := placeByName.FindStringSubmatch(alert)
	if m == nil {
		return section{}, false
	}
	i := slices.IndexFunc(all, func(s section) bool { return s.name == m[1] && (s.kind == "backend" || s.kind == "frontend") })
	if i < 0 {
		return section{}, false
	}
	return all[i], true
}

// has reports whether a backend is rendered.
func (r *Renderer) has(backend string) bool {
	return slices.ContainsFunc(r.settings.Services, func(s Service) bool { return s.Backend == backend }) ||
		slices.ContainsFunc(r.kept, func(k kept) bool { return k.backend == backend })
}
