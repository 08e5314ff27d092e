package render

import (
	"bytes"
	"slices"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// IsOurs reports whether we wrote a haproxy.cfg: it has our header or our
// marker, of whatever version.
func IsOurs(content []byte) bool {
	return bytes.HasPrefix(content, []byte(Header)) || slices.ContainsFunc(sections(content), func(s section) bool {
		return s.kind == "global" && s.has("setenv", plan.MarkerVariable)
	})
}

// Names returns the names of the frontend, backend, listen and defaults sections of a
// haproxy.cfg. Since 3.3 HAProxy takes none of a name that a defaults section has, too.
func Names(content []byte) (names []string) {
	for _, s := range sections(content) {
		switch s.kind {
		case "frontend", "backend", "listen":
			names = append(names, quoting.Replace(s.name))
		case "defaults":
			if s.name != "" && s.name != "from" {
				names = append(names, quoting.Replace(s.name))
			}
		}
	}
	return names
}

// Proxies returns the frontend, backend and listen sections of a haproxy.cfg,
// such as "frontend web", in its order.
func Proxies(content []byte) (names []string) {
	for _, s := range sections(content) {
		switch s.kind {
		case "frontend", "backend", "listen":
			names = append(names, s.kind+" "+quoting.Replace(s.name))
		}
	}
	return names
}
