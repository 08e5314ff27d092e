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
