package render

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/haproxycfg"
)

// The comments around the operator's sections, by which a line of the file is found
// again in the settings.
const (
	sectionsBegin = "# begin haproxy.sections"
	sectionsEnd   = "# end haproxy.sections"
)

// operatorSections is the sections that the settings have whole.
func (s Settings) operatorSections() string {
	if len(s.Sections) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("\n" + sectionsBegin + "\n")
	for _, line := range s.Sections {
		indent := "    "
		if words := strings.Fields(line); len(words) > 0 && haproxycfg.BeginsSection(words[0]) {
			indent = ""
		}
		out.WriteString(indent + strings.TrimSpace(line) + "\n")
	}
	out.WriteString(sectionsEnd + "\n")
	return out.String()
}

// inSettings adds to HAProxy's words about a file what the operator finds in the settings:
// the line of haproxy.sections, or the section that a line of the file is in.
func inSettings(output, path string, content []byte) string {
	lines := strings.Split(string(content), "\n")
	first, last := slices.Index(lines, sectionsBegin), slices.Index(lines, sectionsEnd)
	all := sections(content)
	var out strings.Builder
	for line := range strings.Lines(output) {
		text, end, _ := strings.Cut(line, "\n")
		if m := placeInFile.FindStringSubmatch(line); len(m) == 3 && filepath.Base(m[1]) == filepath.Base(path) {
			n, err := strconv.Atoi(m[2])
			i := slices.IndexFunc(all, func(s section) bool { return s.first <= n && n < s.first+len(s.lines) })
			switch {
			case err != nil:
			case first >= 0 && n-1 > first && n-1 < last:
				text += fmt.Sprintf(" (line %d of haproxy.sections)", n-1-first)
			case i >= 0:
				text += " (" + strings.TrimSpace(all[i].kind+" "+all[i].name) + ")"
			}
		}
		out.WriteString(text + end)
		if strings.HasSuffix(line, "\n") {
			out.WriteString("\n")
		}
	}
	return out.String()
}
