package catalog

import "time"

// Saved is what outlives a sidecar of one service: Consul's last complete
// answer, and when Consul gave it or last said that nothing has changed.
type Saved struct {
	Service  Service
	Answered time.Time
}

// OrSaved gives a Snapshot in which what Consul has not answered yet is taken
// from what was saved, and marked as Old.
func (s Snapshot) OrSaved(saved []Saved) Snapshot {
	for _, old := range saved {
		if s.Service(old.Service.Name).Known {
			continue
		}
		old.Service.Known, old.Service.Old, old.Service.Index = true, true, 0
		s = s.With(old.Service)
	}
	return s
}
