package rollout

import "fmt"

// Actions are the changes that take no more than their name, in the order in which they are
// offered: for commands, the API and the page.
var Actions = []string{"pause", "resume", "promote", "abort", "undo", "end"}

// Do makes one of Actions. reason is for pause and abort only. An error says why the rollout
// does not allow it as it is.
func (d *Document) Do(action string, a Author, reason string) (*Document, error) {
	switch action {
	case "pause":
		return d.Pause(a, reason)
	case "resume":
		return d.Resume(a)
	case "promote":
		return d.Promote(a, false)
	case "abort":
		return d.Abort(a, reason)
	case "undo":
		return d.Undo(a)
	case "end":
		return d.End(a)
	}
	return nil, fmt.Errorf("%q: no such change", action)
}

// Option is one of Actions, and whether a rollout allows it as it is.
type Option struct {
	Action  string         `json:"action"`
	Shares  map[string]int `json:"shares,omitempty"`  // by version, after it, in percent; absent: none, or it is refused
	Refused string         `json:"refused,omitempty"` // why it is not allowed
}

// Options gives Actions with what each would come to now.
func (d *Document) Options() []Option {
	out := make([]Option, 0, len(Actions))
	for _, action := range Actions {
		o := Option{Action: action}
		if next, err := d.Do(action, Author{}, ""); err != nil {
			o.Refused = err.Error()
		} else {
			o.Shares = next.Shares
		}
		out = append(out, o)
	}
	return out
}
