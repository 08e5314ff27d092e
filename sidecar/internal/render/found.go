package render

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// The lines of haproxy.cfg that say what was found in Consul, as comments: a sidecar
// that starts goes on with it, and a route keeps its owner.
const (
	foundServiceLine  = "#discovered "        // SERVICE [PROFILE]
	foundByReloadLine = "#discovered-reload " // the same, of one that is ByReload
	foundGoneLine     = "#discovered-gone "   // the same, of one that HAProxy may still have
	foundRouteLine    = "#claimed "           // FRONTEND KEY STRIP SERVICE SOURCE
)

// writeFound adds what was found. Names, hosts and paths are checked; they have no space.
func writeFound(out *bytes.Buffer, found route.Found) {
	if len(found.Services)+len(found.Routes)+len(found.Gone) == 0 {
		return
	}
	out.WriteString("\n# Services found in Consul, with their profiles, and the routes that services claim.\n")
	for _, s := range found.Services {
		line := foundServiceLine
		if s.ByReload {
			line = foundByReloadLine
		}
		out.WriteString(strings.TrimSpace(line+s.Name+" "+s.Profile) + "\n")
	}
	for _, s := range found.Gone {
		out.WriteString(strings.TrimSpace(foundGoneLine+s.Name+" "+s.Profile) + "\n")
	}
	for _, r := range found.Routes {
		for _, s := range []string{foundRouteLine, r.Frontend, " ", r.Route("").Key(), " ", strconv.Itoa(r.Strip), " ", r.Service, " ", r.Source, "\n"} {
			out.WriteString(s)
		}
	}
}

// FoundIn is what a file says that was found in Consul. A line that cannot be read says
// nothing.
func FoundIn(content []byte) (found route.Found) {
	for line := range strings.Lines(string(content)) {
		for _, prefix := range []string{foundServiceLine, foundByReloadLine, foundGoneLine} {
			rest, is := strings.CutPrefix(line, prefix)
			words := strings.Fields(rest)
			if !is || len(words) == 0 {
				continue
			}
			s := route.FoundService{Name: words[0], Profile: strings.Join(words[1:], " "), ByReload: prefix == foundByReloadLine}
			if prefix == foundGoneLine {
				found.Gone = append(found.Gone, s)
			} else {
				found.Services = append(found.Services, s)
			}
		}
		if rest, is := strings.CutPrefix(line, foundRouteLine); is {
			if r, ok := foundRoute(strings.Fields(rest)); ok {
				found.Routes = append(found.Routes, r)
			}
		}
	}
	return found
}

func foundRoute(words []string) (r *route.FoundRoute, ok bool) {
	if len(words) != 5 {
		return r, false
	}
	key := words[1]
	if strings.HasPrefix(key, "*/") { // of every host
		key = key[1:]
	}
	parsed, err := route.ParseClaim(key)
	strip, errStrip := strconv.Atoi(words[2])
	if err != nil || errStrip != nil || strip < 0 || strip > route.MaxStrip {
		return r, false
	}
	return &route.FoundRoute{Frontend: words[0], Host: parsed.Host, Path: parsed.Path, Strip: strip, Service: words[3], Source: words[4]}, true
}
