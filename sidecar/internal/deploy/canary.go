package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Canary is the rollout that gives the new version its share of the traffic, step by
// step. Others move it: the load balancers' sidecars, and operators. An error says why a
// change is not made; an *UnansweredError says that it may have been made all the same.
// Each change may be made again.
type Canary interface {
	// Prepare gives the version share 0 beside the stable one, or finds its rollout
	// that is under way or, unless it is to begin again, promoted. An error says why it
	// cannot have one.
	Prepare(ctx context.Context, stable string, again bool) (Rollout, error)
	// Start begins the steps of a prepared rollout. One that others have moved or ended
	// stays as it is.
	Start(ctx context.Context) (Rollout, error)
	// Switch gives the version of a prepared rollout all traffic by one change. One that
	// others have moved or ended stays as it is.
	Switch(ctx context.Context) (Rollout, error)
	// Now reads how far it has come.
	Now(ctx context.Context) (Rollout, error)
	// Abort gives the stable version all traffic. A rollout that is promoted, or
	// another's by now, stays as it is.
	Abort(ctx context.Context, reason string) (Rollout, error)
	// End gives all instances their own weights.
	End(ctx context.Context) error
}

// UnansweredError is a call that may succeed when it is made again.
type UnansweredError struct{ Err error }

func (e *UnansweredError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *UnansweredError) Unwrap() error { return e.Err }

// Rollout is how far a canary has come.
type Rollout struct {
	State    RolloutState
	Share    int // of the canary, in percent
	Next     int // its share in the next step; 0: there is none
	StepAt   time.Time
	Interval time.Duration
	Reason   string // why the state is what it is
	Numbers  string // of the comparison, for people; "" where there are none
	By       string // who has changed it last
	At       time.Time
}

// RolloutState is where a rollout stands.
type RolloutState string

// The states.
const (
	Prepared        RolloutState = "prepared" // share 0, no steps yet
	Walking         RolloutState = "running"
	RolloutPaused   RolloutState = "paused"
	Promoted        RolloutState = "promoted"
	RolloutAborted  RolloutState = "aborted"
	RolloutReplaced RolloutState = "replaced" // it is another one, or ended
)

// errAborted and errPaused say how a rollout has ended without its promotion, or after it.
var (
	errAborted = errors.New("the rollout was aborted")
	errPaused  = errors.New("rollout not promoted")
)

// leaves says why a promoted rollout no longer gives the version all traffic; nil: it does.
func (r Rollout) leaves() error {
	switch r.State {
	case Promoted:
		return nil
	case RolloutAborted:
		return fmt.Errorf("%w by %s: %s", errAborted, Quote(r.By), Quote(r.Reason))
	case RolloutReplaced:
		return fmt.Errorf("%w: it was ended or replaced by %s", errPaused, Quote(r.By))
	case Prepared:
		return fmt.Errorf("%w: %s went back to the old version", errPaused, Quote(r.By))
	case Walking, RolloutPaused:
	}
	return fmt.Errorf("%w: it is %s at %d%% by %s since its promotion", errPaused, r.State, r.Share, Quote(r.By))
}

// insist makes a call again and again until there is an answer, or the time is over.
func insist(ctx context.Context, limit time.Duration, call func(context.Context) (Rollout, error)) (Rollout, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for tries := 0; ; tries++ {
		r, err := call(within)
		if _, isUnanswered := errors.AsType[*UnansweredError](err); !isUnanswered {
			return r, err
		}
		if !pause(within, tries) {
			if ctx.Err() != nil {
				return r, context.Cause(ctx)
			}
			return r, fmt.Errorf("no answer within %s: %w", seconds(limit), err)
		}
	}
}

// canary brings the new version in by a rollout. It returns when the version has all
// traffic. Nothing of the old version is stopped here.
func (d *Deployment) canary(ctx context.Context, listing Listing) (Listing, error) {
	old := d.fleet.old(listing)
	if len(old) == 0 {
		if d.fleet.toStart() == 0 {
			return listing, nil
		}
		return listing, fmt.Errorf("%w: no instance of another version than %s runs, so there is nothing to shift traffic from: deploy without %s", ErrUsage, d.Version, d.flag())
	}
	stable := d.fleet.oldVersion(listing)
	for _, i := range old {
		if i.Version != stable {
			return listing, fmt.Errorf("%w: instances of more than one other version run (%s, %s): with %s there may be one", ErrUsage, Quote(stable), Quote(i.Version), d.flag())
		}
	}
	r, err := insist(ctx, lookTimeout, func(ctx context.Context) (Rollout, error) {
		return d.Canary.Prepare(ctx, stable, d.fleet.onlyOldPass(listing))
	})
	if err != nil {
		return listing, err
	}
	d.prepared, d.takenUp = true, r.State != Prepared
	if d.takenUp {
		d.say("continuing the rollout of %s: %s, %d%%", d.Version, r.State, r.Share)
	}
	if r.State == Promoted {
		d.switched, d.switchedAt = true, switchTime(r.At, time.Time{}, time.Now())
		return listing, nil
	}
	d.fleet.unshared = true
	defer func() { d.fleet.unshared = false }()
	if !d.takenUp {
		err = d.awaitView(ctx, Step{Name: "wait for share 0", Detail: fmt.Sprintf("of %s on every load balancer", d.Version), AtDeadline: "nothing is started: exit code 1"},
			func(v View) (string, bool) { return d.lacksShare0(v, r.Next) })
	}
	if err == nil {
		err = d.bringIn(ctx, listing)
	}
	if err != nil {
		return listing, d.giveUp(ctx, err)
	}
	if d.BlueGreen != nil {
		if err := d.switchOver(ctx, r); err != nil {
			return listing, err
		}
		return d.list(ctx, d.Timeout)
	}
	if !d.takenUp {
		if r, err = insist(ctx, d.Timeout, d.Canary.Start); err != nil {
			d.undo = true // they run with share 0 or walk, and the next run goes on with them
			return listing, err
		}
	}
	if err := d.follow(ctx, r); err != nil {
		return listing, err
	}
	d.switched = true
	return d.list(ctx, d.Timeout)
}

// flag is what has a deployment go by a rollout.
func (d *Deployment) flag() string {
	if d.BlueGreen != nil {
		return "--blue-green"
	}
	return "--canary"
}

// giveUp aborts a rollout whose new nodes could not be brought in. It gives back the
// error, or that the rollout, which had begun, is aborted.
func (d *Deployment) giveUp(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	isExplained := errors.Is(err, errNotLive)
	reason := err.Error()
	if isExplained {
		reason = "the new instances did not become live"
	}
	r, failed := insist(ctx, d.Timeout, func(ctx context.Context) (Rollout, error) { return d.Canary.Abort(ctx, reason) })
	switch {
	case failed != nil:
		d.warn("rollout not aborted: %v", failed)
	case r.State == Promoted: // meanwhile
		d.switched = true
	case r.State != RolloutAborted:
		d.warn("rollout not aborted: it was ended or replaced by %s", Quote(r.By))
	case !d.takenUp:
		d.aborted = true
	case isExplained:
		return fmt.Errorf("%w: %s", errAborted, reason)
	default:
		return fmt.Errorf("%w: %w", errAborted, err)
	}
	return err
}

// stillPromoted says why old nodes may not be stopped: the version that replaces them no
// longer has all traffic, or that is unknown.
func (d *Deployment) stillPromoted(ctx context.Context) error {
	if !d.switched {
		return nil
	}
	r, err := insist(ctx, d.Timeout, d.Canary.Now)
	if err != nil {
		return err
	}
	return r.leaves()
}

// whilePromoted returns a context that ends, with the reason as its cause, when a
// promoted rollout no longer gives the version all traffic.
func (d *Deployment) whilePromoted(ctx context.Context) (_ context.Context, end func()) {
	if !d.switched {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for wait(ctx, lookEvery) {
			if r, err := d.Canary.Now(ctx); err == nil && r.leaves() != nil {
				cancel(r.leaves())
			}
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// takeBackCanary stops the new nodes of a rollout that was aborted, once the old ones
// have the traffic on every load balancer; else it leaves them and says so. It gives
// back the error, or a worse one.
func (d *Deployment) takeBackCanary(ctx context.Context, err error) error {
	left := d.awaitView(ctx, Step{Name: "wait for the old version", Detail: "it has all traffic on every load balancer", AtDeadline: "the new instances are left running: exit code 4"}, d.lacksOld)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case left != nil:
		d.undo = true
		return errors.Join(err, left, errors.New("the new instances are left running: stop them when every load balancer has the old version only"))
	}
	clear(d.baseline) // those of a run before as well: the rollout is theirs
	d.takeBack(ctx)
	return err
}

// endRollout gives all instances their own weights, now that the old version is gone.
func (d *Deployment) endRollout(ctx context.Context) {
	_, err := insist(ctx, lookTimeout, func(ctx context.Context) (Rollout, error) { return Rollout{}, d.Canary.End(ctx) })
	if err != nil {
		d.warn("rollout not ended: %v; run: pointsman rollout end %s", err, d.Service)
	}
}

// howToGoOn says what runs on without this process, and how to go on with it.
func (d *Deployment) howToGoOn() {
	if !d.prepared {
		return
	}
	say := func(format string, args ...any) { d.problem(Problem{Reason: fmt.Sprintf(format, args...)}) }
	switch o := d.result.Outcome; {
	case o == Deployed, o == Already:
	case d.aborted && d.touched:
		say("%s keeps share 0, and old instances got the stop command: deploy %s again, or %s with %s", d.Version, safeOr(d.result.OldVersion, "the old version"), d.Version, d.flag())
	case d.aborted:
		say("%s keeps share 0: deploy it again with %s, or without after: pointsman rollout end %s", d.Version, d.flag(), d.Service)
		if slices.ContainsFunc(d.result.New, func(s Standing) bool { return !s.Leaving }) {
			say("instances of %s run without traffic: stop them, or run the same command again to continue with them", d.Version)
		}
	case d.switched && !d.touched && o != Paused:
		say("%s has all traffic and the old instances run: run the command again to continue, or go back by: pointsman rollout abort %s", d.Version, d.Service)
	case d.BlueGreen != nil:
		say("both versions run: see pointsman rollout status %s; run the command again to continue and switch to %s, or end it by rollout abort %s and stop its instances", d.Service, d.Version, d.Service)
	case !d.switched, o == Paused:
		say("the rollout continues without this command while its state is running: see pointsman rollout status %s, end it by rollout abort, or run the command again to continue", d.Service)
	}
}
