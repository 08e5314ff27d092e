package deploy

import (
	"context"
	"fmt"
	"time"
)

// BlueGreen is a deployment whose new version gets all traffic by one change.
type BlueGreen struct {
	// Preview is how long an operator is waited for, who switches by `rollout promote`; 0:
	// the switch comes as soon as the new nodes have been healthy for MinHealthy.
	Preview time.Duration
	// Keep is how long the old nodes run after the switch, at least, to go back to.
	Keep time.Duration
}

// switchOver returns the new version all traffic, or waits for an operator who does, and
// returns when it has that on every load balancer.
func (d *Deployment) switchOver(ctx context.Context, begun Rollout) error {
	r, err, earliest := begun, error(nil), time.Now()
	if d.BlueGreen.Preview > 0 {
		r, earliest, err = d.awaitSwitch(ctx, begun)
	} else if r, err = insist(ctx, d.Timeout, d.Canary.Switch); err != nil {
		d.undo = true // they run with share 0 or have all traffic, and the next run goes on with them
	}
	switch {
	case err != nil:
		return err
	case r.State == RolloutPaused, r.State == Walking:
		return fmt.Errorf("%w: %s has shared the traffic: it is %s at %d%%", errPaused, Quote(r.By), r.State, r.Share)
	case r.State != Promoted:
		return r.leaves()
	}
	now := time.Now()
	d.switched, d.switchedAt = true, switchTime(r.At, earliest, now)
	d.say("switched to %s by %s", d.Version, Quote(r.By))
	watched, end := d.whilePromoted(ctx)
	defer end()
	err = d.awaitView(watched, Step{Name: "switch", Detail: fmt.Sprintf("all traffic for %s on every load balancer", d.Version), AtDeadline: "no old instance is stopped: exit code 4"}, d.lacksNew)
	if err != nil && watched.Err() != nil {
		return context.Cause(watched)
	}
	if err == nil {
		d.say("%s has all traffic on %s, after %s", d.Version, balancers(d.board.bars()), seconds(time.Since(now)))
	}
	return err
}

// switchTime is when a rollout was promoted. at is by the clock of the one who promoted it,
// which may be wrong: it was between earliest and now, by the clock of this machine.
func switchTime(at, earliest, now time.Time) time.Time {
	if at.Before(earliest) {
		at = earliest
	}
	if at.After(now) {
		return now
	}
	return at
}

// lacksNew says why not all of a load balancer's requests go to the new version; "" where
// they do.
func (d *Deployment) lacksNew(v View) (text string, isFinal bool) {
	if s := v.Shares[d.Version]; s.Wanted != 100 || s.Seen < 100 {
		return fmt.Sprintf("gives %s %g%% of the traffic", d.Version, s.Seen), false
	}
	return "", false
}

// awaitSwitch waits until an operator switches. prepared is when that was not so yet, by
// the clock of this machine.
func (d *Deployment) awaitSwitch(ctx context.Context, r Rollout) (_ Rollout, prepared time.Time, err error) {
	limit := d.BlueGreen.Preview
	d.step(Step{Name: "preview", Detail: "waiting for: pointsman rollout promote " + d.Service, AtDeadline: "the command ends with exit code 3, both versions run"}, limit)
	d.say("%s is ready, without traffic: pointsman rollout promote %s switches, rollout abort %s ends it; waiting for %s", d.Version, d.Service, d.Service, seconds(limit))
	begun := time.Now()
	for prepared = begun; r.State == Prepared; {
		left := limit - time.Since(begun)
		if left <= 0 {
			r, err = d.lastLook(ctx)
			return r, prepared, err
		}
		if !wait(ctx, min(left, followEvery)) {
			return r, prepared, context.Cause(ctx)
		}
		asked := time.Now()
		next, err := d.Canary.Now(ctx)
		if err != nil { // it is asked again
			continue
		}
		if r = next; r.State == Prepared {
			prepared = asked
		}
	}
	return r, prepared, nil
}

// lastLook reads the rollout once more when the time for the switch is over: it may have
// been promoted since the last answer.
func (d *Deployment) lastLook(ctx context.Context) (Rollout, error) {
	limit := seconds(d.BlueGreen.Preview)
	r, err := insist(ctx, lookTimeout, d.Canary.Now)
	switch {
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case err != nil:
		return r, fmt.Errorf("%w: it is unknown whether it was switched within %s: %w", errPaused, limit, err)
	case r.State == Prepared:
		return r, fmt.Errorf("%w: not switched within %s", errPaused, limit)
	}
	return r, nil
}

// keepWarm leaves the old nodes running for a time after the switch. It ends with an
// error when an operator goes back meanwhile.
func (d *Deployment) keepWarm(ctx context.Context) error {
	if d.BlueGreen == nil || !d.switched {
		return nil
	}
	left := d.BlueGreen.Keep
	if since := time.Since(d.switchedAt); since > 0 {
		left -= since
	}
	if left <= 0 {
		return nil
	}
	d.step(Step{Name: "keep", Detail: "the old instances run without traffic", AtDeadline: "the old instances are stopped"}, left)
	d.say("old instances kept for %s: pointsman rollout undo %s gives them all traffic again", seconds(left), d.Service)
	watched, end := d.whilePromoted(ctx)
	defer end()
	if !wait(watched, left) {
		return context.Cause(watched)
	}
	return nil
}
