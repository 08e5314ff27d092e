package deploy

import "time"

// Step is a step of a deployment that begins, for people.
type Step struct {
	Name    string    `json:"name"` // check, start, wait until live, watch, stop, wait until drained, confirm, take back
	Detail  string    `json:"detail,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Failed  bool      `json:"failed,omitempty"`

	Deadline   time.Time `json:"deadline,omitzero"`
	AtDeadline string    `json:"at_deadline,omitempty"` // what happens then

	OldVersion string `json:"-"` // what the deployment replaces; "" where that is not known yet
}

// What happens at the deadlines.
const (
	atLiveDeadline  = "the new nodes are stopped again, the old ones are not touched: exit code 1"
	atDrainDeadline = "the deployment ends as partially deployed, no further node is stopped: exit code 4"
)

// step tells of a step that begins, with a deadline if there is one.
func (d *Deployment) step(s Step, within time.Duration) {
	s.Started, s.OldVersion = time.Now(), d.result.OldVersion
	if within > 0 {
		s.Deadline = s.Started.Add(within)
	}
	d.Step(s)
}
