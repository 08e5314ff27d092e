package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	followEvery = time.Second
	// sharesEvery is how often the load balancers are asked for their shares, once they
	// had those of a step, or sharesWait for them is over.
	sharesEvery, sharesWait = 5 * time.Second, 10 * time.Second
	// sayNumbersEvery is how often the numbers of a comparison are a line.
	sayNumbersEvery = 10 * time.Second
	// unmovedFor is how long beyond its own deadline a step may last: then no sidecar
	// moves the rollout.
	unmovedFor = time.Minute
	// lacksFor is how long a load balancer may be without the rollout. A sidecar that has
	// just started reads it within a second.
	lacksFor = 10 * time.Second
)

// follow looks at the rollout until it is promoted. An error is errAborted or errPaused.
func (d *Deployment) follow(ctx context.Context, r Rollout) error {
	shown := followed{lacks: map[string]time.Time{}}
	var pausedAt time.Time
	for {
		if r.State == Prepared { // again, by an operator who has set it to 0
			r.State, r.Next = RolloutPaused, 0
		}
		d.showRollout(&shown, r)
		switch r.State {
		case Promoted:
			return nil
		case RolloutAborted, RolloutReplaced:
			return r.leaves()
		case RolloutPaused:
			if pausedAt.IsZero() {
				pausedAt = time.Now()
			}
			if time.Since(pausedAt) >= d.PauseTimeout {
				return fmt.Errorf("%w: paused at %d%% by %s: %s", errPaused, r.Share, Quote(r.By), Quote(r.Reason))
			}
		default:
			pausedAt = time.Time{}
			if most := max(10*r.Interval, 10*time.Minute) + unmovedFor; time.Since(r.StepAt) > most {
				return fmt.Errorf("%w: no sidecar has moved it for %s: their logs say why", errPaused, seconds(time.Since(r.StepAt)))
			}
		}
		if reason := d.showShares(ctx, &shown, r.Share); reason != "" {
			if aborted, err := d.Canary.Abort(ctx, reason); err == nil {
				r = aborted
				continue
			} else if shown.failed != err.Error() && ctx.Err() == nil { // it is tried again
				shown.failed = err.Error()
				d.warn("rollout not aborted: %v", err)
			}
		}
		if !wait(ctx, followEvery) {
			return context.Cause(ctx)
		}
		next, err := d.Canary.Now(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !shown.isLost:
			shown.isLost = true
			d.say("rollout unknown: %v", err)
		case err == nil:
			r, shown.isLost = next, false
		}
	}
}

// followed is what has been shown of a rollout.
type followed struct {
	is      Rollout
	since   time.Time // when it was shown first
	numbers time.Time
	isLost  bool   // it could not be read the last time
	failed  string // why it could not be aborted the last time

	isShared bool      // every load balancer has had the share of the step
	asked    time.Time // when they were asked for it
	lacks    map[string]time.Time
}

// showRollout tells of a step that has begun, and of the numbers of its comparison.
func (d *Deployment) showRollout(shown *followed, r Rollout) {
	isNew := shown.is.State != r.State || shown.is.Share != r.Share || !shown.is.StepAt.Equal(r.StepAt)
	if isNew {
		now := time.Now()
		shown.since, shown.numbers, shown.asked, shown.isShared = now, now, time.Time{}, false
		detail := fmt.Sprintf("%d%% of the traffic for %s", r.Share, d.Version)
		switch r.State {
		case Walking:
			within := max(time.Second, time.Until(r.StepAt.Add(r.Interval)))
			d.step(Step{Name: "canary", Detail: detail, AtDeadline: fmt.Sprintf("%d%%, if it is as good as the old version; if it is worse: aborted, exit code 5", r.Next)}, within)
			d.say("canary %s: %s for %s", r.State, detail, seconds(r.Interval))
		case RolloutPaused:
			d.step(Step{Name: "paused", Detail: detail, AtDeadline: "the command ends with exit code 3, both versions run"}, d.PauseTimeout)
			begin := "resume"
			if r.Next == 0 { // it has no steps
				begin = "rollout start"
			}
			d.say("canary paused by %s: %s; waiting for %s, promote or abort", Quote(r.By), detail, begin)
		default:
			d.say("canary %s: %s", r.State, detail)
		}
		if r.Reason != "" {
			d.say("reason: %s", Quote(r.Reason))
		}
	}
	shown.is = r
	if r.State == Walking && r.Numbers != "" && time.Since(shown.numbers) >= sayNumbersEvery {
		shown.numbers = time.Now()
		d.say("%s", r.Numbers)
	}
}

// showShares tells once in a step of the part that each load balancer gives the canary,
// when all have what is wanted. It says why the rollout cannot go on: one of them does not
// apply the shares, or does not know of them.
func (d *Deployment) showShares(ctx context.Context, shown *followed, wanted int) (unapplied string) {
	isWaited := !shown.isShared && time.Since(shown.since) < sharesWait
	if !isWaited && time.Since(shown.asked) < sharesEvery {
		return ""
	}
	shown.asked = time.Now()
	_ = d.refresh(ctx) // those that are known are asked in any case
	views, silent := d.views(ctx)
	for _, name := range slices.Sorted(maps.Keys(views)) {
		if view := views[name]; view.Unapplied != "" {
			return fmt.Sprintf("%s does not apply the shares: %s", name, view.Unapplied)
		}
	}
	parts := make([]string, 0, len(views))
	for _, name := range slices.Sorted(maps.Keys(views)) {
		s, has := views[name].Shares[d.Version]
		since, lacked := shown.lacks[name]
		switch {
		case has:
			delete(shown.lacks, name)
		case !lacked:
			shown.lacks[name] = time.Now()
		case time.Since(since) >= lacksFor:
			return fmt.Sprintf("%s has not read the rollout", name)
		}
		if has && s.Wanted == wanted && s.Seen >= float64(wanted)-2 && s.Seen <= float64(wanted)+2 {
			parts = append(parts, fmt.Sprintf("%g%% on %s", s.Seen, name))
		}
	}
	if len(silent) == 0 && len(parts) == len(views) && !shown.isShared {
		shown.isShared = true
		d.say("%s has %s", d.Version, strings.Join(parts, ", "))
	}
	return ""
}
