package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Canary is the rollout that gives the new version its share of the traffic, step by
// step. Others move it: the load balancers' sidecars, and operators. An error is no
// answer, or says why a change is not made.
type Canary interface {
	// Prepare gives the version share 0 beside the stable one, or finds its rollout
	// that is under way or promoted. An error says why it cannot have one.
	Prepare(ctx context.Context, stable string) (Rollout, error)
	// Start begins the steps.
	Start(ctx context.Context) (Rollout, error)
	// Now reads how far it has come.
	Now(ctx context.Context) (Rollout, error)
	// Abort gives the stable version all traffic.
	Abort(ctx context.Context, reason string) error
	// End gives all instances their own weights.
	End(ctx context.Context) error
}

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

// errAborted and errPaused say how a rollout has ended before its promotion.
var (
	errAborted = errors.New("rollout aborted")
	errPaused  = errors.New("rollout not promoted")
)

const (
	followEvery = time.Second
	// sayNumbersEvery is how often the numbers of a comparison are a line.
	sayNumbersEvery = 10 * time.Second
	// unmovedFor is how long beyond its own deadline a step may last: then no sidecar
	// moves the rollout.
	unmovedFor = time.Minute
)

// canary brings the new version in by a rollout. It returns when the version has all
// traffic. Nothing of the old version is stopped here.
func (d *Deployment) canary(ctx context.Context, listing Listing) (Listing, error) {
	old := d.fleet.old(listing)
	if len(old) == 0 {
		if d.fleet.toStart() == 0 {
			return listing, nil
		}
		return listing, fmt.Errorf("%w: no instance of another version than %s runs, so there is nothing to compare a canary with: deploy without --canary", ErrUsage, d.Version)
	}
	stable := d.fleet.oldVersion(listing)
	for _, i := range old {
		if i.Version != stable {
			return listing, fmt.Errorf("%w: instances of more than one other version run (%s, %s): a canary is compared with one", ErrUsage, Quote(stable), Quote(i.Version))
		}
	}
	r, err := d.Canary.Prepare(ctx, stable)
	if err != nil {
		return listing, err
	}
	d.prepared = true
	if r.State != Prepared {
		d.say("going on with the rollout of %s: %s, %d%%", d.Version, r.State, r.Share)
	}
	if r.State == Promoted {
		d.switched = true
		return listing, nil
	}
	d.fleet.unshared = true
	defer func() { d.fleet.unshared = false }()
	if r.State == Prepared {
		err = d.awaitView(ctx, "wait for share 0", fmt.Sprintf("of %s on every load balancer", d.Version),
			func(v View) string { return d.lacksShare0(v, r.Next) })
	}
	if err == nil {
		err = d.bringIn(ctx, listing)
	}
	if err != nil {
		if ctx.Err() == nil && r.State == Prepared {
			d.abort(ctx, "the new nodes did not become live")
		}
		return listing, err
	}
	if r.State == Prepared {
		if r, err = d.Canary.Start(ctx); err != nil {
			d.undo = true // they run with share 0, and the next run goes on with them
			return listing, err
		}
	}
	if err := d.follow(ctx, r); err != nil {
		if errors.Is(err, errAborted) && ctx.Err() == nil {
			err = d.takeBackCanary(ctx, err)
		}
		return listing, err
	}
	d.switched = true
	return d.list(ctx, d.Timeout)
}

// abort gives the stable version all traffic, or says why not.
func (d *Deployment) abort(ctx context.Context, reason string) {
	if err := d.Canary.Abort(ctx, reason); err != nil {
		d.warn("rollout not aborted: %v", err)
	}
}

// follow looks at the rollout until it is promoted. An error is errAborted or errPaused.
func (d *Deployment) follow(ctx context.Context, r Rollout) error {
	var shown followed
	var pausedAt time.Time
	for {
		d.showRollout(ctx, &shown, r)
		switch r.State {
		case Promoted:
			return nil
		case RolloutAborted:
			d.problem(Problem{Reason: fmt.Sprintf("the rollout was aborted by %s: %s", Quote(r.By), Quote(r.Reason))})
			return errAborted
		case RolloutReplaced:
			return fmt.Errorf("%w: it was ended or replaced by %s", errPaused, Quote(r.By))
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
	seen    string // the shares that the load balancers give
	numbers time.Time
	isLost  bool // it could not be read the last time

	isStopped bool // a load balancer does not apply it
}

// showRollout tells of a step that has begun, of the shares that load balancers have,
// and of the numbers of its comparison.
func (d *Deployment) showRollout(ctx context.Context, shown *followed, r Rollout) {
	isNew := shown.is.State != r.State || !shown.is.StepAt.Equal(r.StepAt)
	if isNew {
		shown.seen, shown.numbers = "", time.Now()
		detail := fmt.Sprintf("%d%% of the traffic for %s", r.Share, d.Version)
		switch r.State {
		case Walking:
			within := max(time.Second, time.Until(r.StepAt.Add(r.Interval)))
			d.step(Step{Name: "canary", Detail: detail, AtDeadline: fmt.Sprintf("%d%%, if it is as good as the old version; if it is worse: aborted, exit code 5", r.Next)}, within)
			d.say("canary %s: %s for %s", r.State, detail, seconds(r.Interval))
		case RolloutPaused:
			d.step(Step{Name: "paused", Detail: detail, AtDeadline: "the command ends with exit code 3, both versions run"}, d.PauseTimeout)
			d.say("canary paused by %s: %s; waiting for resume, promote or abort", Quote(r.By), detail)
		default:
			d.say("canary %s: %s", r.State, detail)
		}
		if r.Reason != "" {
			d.say("reason: %s", Quote(r.Reason))
		}
	}
	shown.is = r
	seen, unapplied := d.sharesSeen(ctx, r.Share)
	if unapplied != "" && !shown.isStopped {
		shown.isStopped = true
		d.abort(ctx, unapplied)
	}
	if seen != "" && seen != shown.seen {
		shown.seen = seen
		d.say("%s has %s", d.Version, seen)
	}
	if r.State == Walking && r.Numbers != "" && time.Since(shown.numbers) >= sayNumbersEvery {
		shown.numbers = time.Now()
		d.say("%s", r.Numbers)
	}
}

// sharesSeen is the part of the canary on each load balancer, once all have what is
// wanted; until then "". unapplied says why one does not apply the shares.
func (d *Deployment) sharesSeen(ctx context.Context, wanted int) (seen, unapplied string) {
	parts := []string{}
	for name, view := range d.views(ctx) {
		s := view.Shares[d.Version]
		d.board.set(name, func(b *Bar) { b.Live, b.Trouble = min(len(d.fleet.liveIn(view)), d.fleet.goal), "" })
		if view.Unapplied != "" {
			return "", fmt.Sprintf("%s does not apply the shares: %s", name, view.Unapplied)
		}
		if s.Wanted != wanted || s.Seen < float64(wanted)-2 || s.Seen > float64(wanted)+2 {
			return "", ""
		}
		parts = append(parts, fmt.Sprintf("%g%% on %s", s.Seen, name))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", "), ""
}

// awaitView waits until every load balancer's view is as wanted. lacks says what it
// lacks, or "".
func (d *Deployment) awaitView(ctx context.Context, step, detail string, lacks func(View) string) error {
	d.step(Step{Name: step, Detail: detail, AtDeadline: "exit code 1"}, d.Timeout)
	within, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	for {
		names := d.board.names()
		errs := make([]error, len(names))
		each(names, func(i int, name string) {
			view, err := d.view(within, d.board.balancer(name))
			switch {
			case errors.Is(err, ErrNotRouted):
				d.board.unrouted(name)
			case err != nil:
				errs[i] = fmt.Errorf("%s unreachable: %w", name, err)
			case lacks(view) != "":
				errs[i] = errors.New(name + " " + lacks(view))
			}
		})
		err := errors.Join(errs...)
		if err == nil {
			return nil
		}
		if !wait(within, viewEvery) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		_ = d.refresh(within) // known ones are asked again
	}
}

// lacksShare0 says why a load balancer might give the version more traffic than the
// steps do, of which first is the first; "" where it does not.
func (d *Deployment) lacksShare0(v View, first int) string {
	switch s, has := v.Shares[d.Version]; {
	case v.Unapplied != "":
		return "does not apply the rollout: " + Quote(v.Unapplied)
	case !has:
		return "does not know of the rollout: its token needs key:read for pointsman/rollouts/, and it must be of this version"
	case v.Fixed != "" && first < 100:
		return "takes no other shares than 0 and 100: " + Quote(v.Fixed)
	case s.Wanted != 0:
		return fmt.Sprintf("gives %s a share of %d%%", d.Version, s.Wanted)
	}
	return ""
}

// lacksOld says why it is not safe to stop the canary, by a load balancer; "" where it is.
func (d *Deployment) lacksOld(v View) string {
	isServed := false
	for _, i := range v.list() {
		takes := v.Instances[i.Key()].Takes
		switch {
		case takes && d.fleet.isNew(i):
			return fmt.Sprintf("still sends requests to %s", Quote(i.ID))
		case takes && d.fleet.isOld(i):
			isServed = true
		}
	}
	if !isServed {
		return "has no node of the old version that takes traffic"
	}
	return ""
}

// takeBackCanary stops the new nodes of a rollout that was aborted, once the old ones
// have the traffic on every load balancer; else it leaves them and says so. It gives
// back the error, or a worse one.
func (d *Deployment) takeBackCanary(ctx context.Context, err error) error {
	if left := d.awaitView(ctx, "wait for the old version", "it has all traffic on every load balancer", d.lacksOld); left != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for line := range strings.Lines(left.Error()) {
			d.problem(Problem{Reason: strings.TrimRight(line, "\n")})
		}
		d.problem(Problem{Reason: "the new nodes are left running: stop them when every load balancer has the old version only"})
		return err
	}
	clear(d.baseline) // those of a run before as well: the rollout is theirs
	d.takeBack(ctx)
	return err
}

// endRollout gives all instances their own weights, now that the old version is gone.
func (d *Deployment) endRollout(ctx context.Context) {
	if err := d.Canary.End(ctx); err != nil {
		d.warn("rollout not ended: %v; say: pointsman rollout end %s", err, d.Service)
	}
}

// howToGoOn says what runs on without this process, and how to go on with it.
func (d *Deployment) howToGoOn() {
	if d.Canary == nil {
		return
	}
	say := func(format string, args ...any) { d.problem(Problem{Reason: fmt.Sprintf(format, args...)}) }
	switch o := d.result.Outcome; {
	case o == Aborted:
		say("%s keeps share 0: deploy it again with --canary, or without after: pointsman rollout end %s", d.Version, d.Service)
	case o == Halfway && d.switched && !d.touched:
		say("%s has all traffic and the old nodes run: run the command again to go on, or go back by: pointsman rollout undo %s", d.Version, d.Service)
	case o == Paused, o == Interrupted && d.prepared && !d.switched:
		say("the rollout stands in Consul and sidecars move it while it is running: see pointsman rollout status %s, end it by rollout abort, or run the command again to go on", d.Service)
	}
}
