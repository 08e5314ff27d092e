package deploy

import (
	"fmt"
	"strings"
	"time"
)

// Outcome is how a deployment ended.
type Outcome string

// The outcomes.
const (
	Deployed    Outcome = "deployed"              // live and drained on every load balancer
	Already     Outcome = "already deployed"      // nothing was to be done
	Failed      Outcome = "failed"                // what ran before runs on, untouched
	Halfway     Outcome = "partially deployed"    // old ones were stopped, or new ones may run still
	Interrupted Outcome = "interrupted"           // ended from outside
	Refused     Outcome = "deployment impossible" // the order is wrong; nothing was done
	Aborted     Outcome = "aborted"               // the canary's rollout was: what ran before has all traffic
	Paused      Outcome = "paused"                // the canary's rollout is: both versions run, nothing was stopped
)

// Result is what came of a deployment, for people and programs.
type Result struct {
	Outcome    Outcome `json:"outcome"`
	Service    string  `json:"service"`
	Version    string  `json:"version"`
	OldVersion string  `json:"old_version,omitempty"`
	Count      int     `json:"count"` // number that there was to be in the end

	Started int      `json:"started"` // nodes started by this run
	Stopped []string `json:"stopped"` // old instances that were stopped by this run
	Undone  []string `json:"undone"`  // new instances that were stopped again

	// Foreign is what is neither old nor new.
	Foreign []Standing `json:"foreign"`

	// What Consul lists at the end; nil if it can't be asked.
	New []Standing `json:"new"`
	Old []Standing `json:"old"`

	LoadBalancers []Bar     `json:"load_balancers"`
	Problems      []Problem `json:"problems"`
	Warnings      []string  `json:"warnings"`
	TookMS        int64     `json:"took_ms"`
}

// Standing is an instance at the end of a deployment.
type Standing struct {
	ID      string `json:"id"`
	Node    string `json:"node"`
	Version string `json:"version"`
	Leaving bool   `json:"leaving"`
	Failing bool   `json:"failing"` // a check of it is critical
}

// Bar is how far a load balancer has come.
type Bar struct {
	Name    string `json:"name"`
	Live    int    `json:"live"` // instances of the version that take traffic
	Want    int    `json:"want"`
	Drained int    `json:"drained"` // old instances without a session left
	Of      int    `json:"of"`
	Trouble string `json:"trouble,omitempty"` // why it could not be asked the last time
	Waits   string `json:"waits,omitempty"`   // what it waits for: an instance that is not drained yet
}

// Problem is one reason why a deployment failed. What comes from outside is
// quoted in Reason, and as it was everywhere else.
type Problem struct {
	Reason       string `json:"reason"` // a whole sentence's worth
	LoadBalancer string `json:"load_balancer,omitempty"`
	Instance     string `json:"instance,omitempty"`
	Check        string `json:"check,omitempty"`
	Status       string `json:"status,omitempty"`
	Output       string `json:"output,omitempty"`
	Phase        string `json:"phase,omitempty"` // the instance's, on the load balancer
	WaitedMS     int64  `json:"waited_ms,omitempty"`
}

// String is the problem for people.
func (p Problem) String() string {
	if p.WaitedMS == 0 {
		return p.Reason
	}
	return fmt.Sprintf("%s, after %s", p.Reason, seconds(time.Duration(p.WaitedMS)*time.Millisecond))
}

// Error is why it failed, on one line for each reason.
func (r Result) Error() string {
	lines := make([]string, 0, len(r.Problems))
	for _, p := range r.Problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// Summary says in one line how it ended.
func (r Result) Summary() string {
	took := seconds(time.Duration(r.TookMS) * time.Millisecond)
	what := fmt.Sprintf("%s %s", r.Service, r.Version)
	switch r.Outcome {
	case Deployed:
		return fmt.Sprintf("%s deployed: live on %s, old version drained, in %s", what, balancers(r.LoadBalancers), took)
	case Already:
		return fmt.Sprintf("%s already deployed: %d live on %s; no changes made", what, r.Count, balancers(r.LoadBalancers))
	case Failed, Refused:
		return what + " not deployed; old instances not touched"
	case Aborted:
		return what + " aborted; old instances not touched: " + r.standing()
	case Paused:
		return what + " not promoted yet: " + r.standing()
	case Halfway:
		return what + " partially deployed: " + r.standing()
	case Interrupted:
		return what + " partially deployed, interrupted: " + r.standing() + "; run the command again to continue"
	}
	return what
}

// standing says what runs now.
func (r Result) standing() string {
	if r.New == nil && r.Old == nil {
		return "running instances unknown, because Consul does not answer"
	}
	return fmt.Sprintf("new version: %s; old version: %s", names(r.New), names(r.Old))
}

func names(list []Standing) string {
	if len(list) == 0 {
		return "no instance runs"
	}
	out := make([]string, 0, len(list))
	for _, s := range list {
		name := s.ID
		if CheckWord(name) != nil {
			name = Quote(name)
		}
		switch {
		case s.Leaving:
			name += " (leaving)"
		case s.Failing:
			name += " (failing)"
		}
		out = append(out, name)
	}
	verb := "run"
	if len(list) == 1 {
		verb = "runs"
	}
	return fmt.Sprintf("%s %s", strings.Join(out, ", "), verb)
}

func balancers(list []Bar) string {
	if len(list) == 1 {
		return "1 load balancer"
	}
	return fmt.Sprintf("%d load balancers", len(list))
}

// seconds shows a time as people read it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
