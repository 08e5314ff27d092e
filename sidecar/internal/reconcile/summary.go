package reconcile

import (
	"fmt"
	"strings"
	"time"
)

// Summary is a state in one line, for Consul's check of the sidecar and for
// systemd. It has no error texts, since anyone may read it, and no ages: it stays
// the same while nothing happens.
func (s *State) Summary() string {
	up, servers := 0, 0
	for i := range s.Services {
		for j := range s.Services[i].Instances {
			inst := &s.Services[i].Instances[j]
			if inst.Phase == PhaseUnknown {
				continue // HAProxy does not have it
			}
			servers++
			if inst.TakesTraffic() {
				up++
			}
		}
	}
	parts := []string{count(len(s.Services), "service"), fmt.Sprintf("%d of %s up", up, count(servers, "server")), "file " + s.File.word()}
	switch {
	case !s.HAProxy.Running && s.HAProxy.Stopped:
		parts = append(parts, "HAProxy is not running")
	case !s.HAProxy.Running:
		parts = append(parts, "HAProxy cannot be read")
	case s.HAProxy.Maintenance:
		parts = append(parts, "maintenance")
	}
	if !s.Consul.Reachable {
		parts = append(parts, "Consul query failed")
	}
	text := "ready; "
	if !s.Ready {
		text = "not ready; "
	}
	text += strings.Join(parts, ", ")
	if r := s.Reloads; !r.Last.IsZero() {
		text += fmt.Sprintf("; last reload %s, %s", r.Last.UTC().Format(time.RFC3339), r.LastReason)
	}
	return text
}

func (f FileState) word() string {
	switch {
	case f.Error != "":
		return "not written"
	case f.Pending:
		return "pending"
	case f.Current:
		return "current"
	}
	return "not current"
}
