package deploy

import "time"

// Step is a step of a deployment that begins, for people.
type Step struct {
	// Name is one of check, start, wait until live, watch, stop, wait until drained, confirm
	// and take back; of a canary also wait for share 0, canary, paused and wait for the old
	// version; of blue/green wait for share 0, preview, switch, keep and wait for the old
	// version.
	Name    string    `json:"name"`
	Detail  string    `json:"detail,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	Failed  bool      `json:"failed,omitempty"`

	Deadline   time.Time `json:"deadline,omitzero"`
	AtDeadline string    `json:"at_deadline,omitempty"` // what happens then

	OldVersion string `json:"-"` // what the deployment replaces; "" where that is not known yet
}

// atDrainDeadline and atLiveDeadline say what happens at a step's deadline.
const atDrainDeadline = "the deployment ends as partially deployed, no further instance is stopped: exit code 4"

func (d *Deployment) atLiveDeadline() string {
	switch {
	case d.switched:
		return "no old instance is stopped: exit code 4"
	case d.takenUp:
		return "the rollout is aborted and the new instances are stopped, the old ones are not touched: exit code 5"
	}
	return "the new instances are stopped again, the old ones are not touched: exit code 1"
}

// step tells of a step that begins, with a deadline if there is one.
func (d *Deployment) step(s Step, within time.Duration) {
	s.Started, s.OldVersion = time.Now(), d.result.OldVersion
	if within > 0 {
		s.Deadline = s.Started.Add(within)
	}
	d.Step(s)
}
