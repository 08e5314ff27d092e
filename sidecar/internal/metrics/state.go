package metrics

import "time"

// State is what is so at one moment.
type State struct {
	Ready    bool
	Running  bool      // HAProxy answers
	Services []Service // all that are routed now

	Maintenance bool // this load balancer is out of rotation

	Behind      int       // changes that HAProxy is still to get
	BehindSince time.Time // since when the oldest waits; zero: none does

	LeftOut int // services that haproxy.cfg does not have as the settings say
}

// Service is one service at one moment.
type Service struct {
	Name     string         // Consul's
	Servers  map[string]int // how many, by phase; a phase that is absent has none
	Rejected int            // instances left out
	Beyond   int            // instances left out because the service has too many
	Held     int            // servers that the guard holds
	Damped   int            // instances that are kept out because they flap
	IsPaused bool           // its new requests wait in HAProxy

	// IsUnchanged stands for the numbers of the State before: the others are not set.
	IsUnchanged bool
}

// Update gets each new State. The series of services that are no longer in
// it go.
func (r *Recorder) Update(s State) {
	r.ready.Set(number(s.Ready))
	r.running.Set(number(s.Running))
	r.maintenance.Set(number(s.Maintenance))
	r.leftOut.Set(float64(s.LeftOut))
	r.behind.Set(float64(s.Behind))
	r.behindFor.Set(0)
	if !s.BehindSince.IsZero() {
		r.behindFor.Set(r.now().Sub(s.BehindSince).Seconds())
	}

	r.services.update(s.Services)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
