package reconcile

import "time"

// published is one State and the end of its time.
type published struct {
	state *State
	ended chan struct{} // closed when a newer one is published
}

// State is the newest state. It never blocks.
func (a *Agent) State() *State { return a.newest.Load().state }

// Watch returns the newest state and a channel that is closed when there is a
// newer one. It never blocks.
func (a *Agent) Watch() (*State, <-chan struct{}) {
	p := a.newest.Load()
	return p.state, p.ended
}

// show publishes a state to all that wait.
func (a *Agent) show(s *State) {
	old := a.newest.Swap(&published{state: s, ended: make(chan struct{})})
	if old != nil {
		close(old.ended)
	}
}

// attendedPace is how often HAProxy is read while a client waits to hear that
// a server has no session left: they hear of it within about this time.
const attendedPace = 5 * time.Millisecond

// Attend tells the agent that n more wait for what it publishes, or with
// a negative number, fewer. It never blocks.
func (a *Agent) Attend(change int) {
	if a.attending.Add(int32(change)) > 0 {
		select {
		case a.attended <- struct{}{}:
		default:
		}
	}
}
