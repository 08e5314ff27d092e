package load

import "time"

// Snapshot is how a run goes.
type Snapshot struct {
	Elapsed  time.Duration // since the start; 0 before
	Requests uint64        // that have ended, in all
	Failed   uint64        // of them
	InFlight int
	Last     Second // the last whole second; zero in the first
}

func (r *recorder) snapshot(at time.Time) Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start.IsZero() {
		return Snapshot{}
	}
	r.roll(at)
	s := Snapshot{Elapsed: at.Sub(r.start), Requests: r.all.requests, Failed: r.all.failed}
	if n := len(r.past); n > 0 {
		s.Last = r.past[n-1] // its Versions are never written to again
	}
	return s
}
