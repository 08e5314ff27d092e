package metrics

import "github.com/pointsman/pointsman/sidecar/internal/plan"

// The results of what can fail.
const (
	ok     = "ok"
	failed = "failed"
)

func result(hasFailed bool) string {
	if hasFailed {
		return failed
	}
	return ok
}

// other is the kind of a command that is in no list, so that a caller's new
// kind shows and the labels stay bounded.
const other = "other"

// commandKinds are the kinds of commands: a step's, and those that are none.
func commandKinds() []string {
	kinds := []string{"observe", "reload", "read_map", "find_entry", "update_map", other}
	for _, k := range plan.Kinds {
		kinds = append(kinds, string(k))
	}
	return kinds
}

// stepReasons are all of plan's; a test compares them with its source.
func stepReasons() []plan.Reason {
	return []plan.Reason{
		plan.Registered, plan.Healthy, plan.Unhealthy, plan.Leaving, plan.InMaintenance, plan.ByOperator, plan.Deregistered,
		plan.RoleLost, plan.Drained, plan.DrainExpired, plan.Moved, plan.Reweighted, plan.Drift, plan.Unused, plan.OutOfTraffic,
	}
}

// startAtZero makes every series of a closed list exist, so that the first
// event is an increase and not a beginning.
func (r *Recorder) startAtZero() {
	for _, res := range []string{ok, failed} {
		r.writes.WithLabelValues(res)
		for _, k := range commandKinds() {
			r.commands.WithLabelValues(k, res)
		}
		for _, reason := range plan.ReloadReasons {
			r.reloads.WithLabelValues(string(reason), res)
		}
	}
	for _, k := range plan.Kinds {
		for _, reason := range stepReasons() {
			r.steps.WithLabelValues(string(k), string(reason))
		}
	}
}
