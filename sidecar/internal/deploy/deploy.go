package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options are an order, and the ways to the outside.
type Options struct {
	Order
	Catalog   Catalog
	Balancers Balancers
	Nodes     Nodes
	Canary    Canary     // nil: the new version gets all traffic as soon as it is live
	BlueGreen *BlueGreen // that the Canary switches at once; nil: it walks its steps

	Say  func(line string) // one for each transition; nil ok
	Step func(Step)        // when one begins, by one goroutine; nil ok
	Show func(bars []Bar)  // whenever one has changed, by one goroutine at a time; nil ok
}

// Deployment is one deployment, to be run once.
type Deployment struct {
	Options
	fleet *fleet
	board *board // where every load balancer stands

	result     Result
	baseline   map[Key]bool // new ones that are not to be taken back: live in a wave before, or there at the start
	proposed   []string     // IDs given to the nodes of this wave
	steady     keySet       // new ones that every load balancer has had live for MinHealthy
	named      map[Key]bool // foreign ones that were named
	back       map[Key]bool // new ones that were stopped again
	gone       []Key        // new ones that were live, but not for the whole time
	touched    bool         // an old one was told to stop
	undo       bool         // new ones could not be taken back
	prepared   bool         // a rollout of the new version stands in Consul
	takenUp    bool         // it was under way before this run
	switched   bool         // it is promoted: the new version has all traffic
	switchedAt time.Time    // when: see switchTime
	aborted    bool         // it is aborted: the old version has
}

// New checks the order. It starts nothing.
func New(o Options) (*Deployment, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Catalog == nil || o.Balancers == nil || o.Nodes == nil {
		return nil, errors.New("deploy: Catalog, Balancers and Nodes must be set")
	}
	if b := o.BlueGreen; b != nil && (o.Canary == nil || b.Keep < 0 || b.Preview < 0) {
		return nil, fmt.Errorf("deploy: blue/green: keep %s, preview %s: must not be negative, and Canary must be set", b.Keep, b.Preview)
	}
	if o.Pattern == nil {
		o.Pattern = DefaultPattern(o.Service)
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.Step == nil {
		o.Step = func(Step) {}
	}
	if o.Show == nil {
		o.Show = func([]Bar) {}
	}
	return &Deployment{
		Options: o, board: newBoard(o.Show), baseline: map[Key]bool{}, back: map[Key]bool{}, named: map[Key]bool{},
		result: Result{Service: o.Service, Version: o.Version, Stopped: []string{}, Undone: []string{}, Foreign: []Standing{}, Problems: []Problem{}, Warnings: []string{}},
	}, nil
}

// Run deploys, and returns when the version is live and the old one drained on
// every load balancer, or when that has failed, or when ctx has ended.
func (d *Deployment) Run(ctx context.Context) Result {
	begun := time.Now()
	err := d.run(ctx)
	if errors.Is(err, errAborted) {
		d.aborted = true
		if ctx.Err() == nil && !d.touched {
			err = d.takeBackCanary(ctx, err)
		}
	}
	switch {
	case err == nil:
		d.result.Outcome = Deployed
		if d.result.Started == 0 && !d.touched {
			d.result.Outcome = Already
		}
	case ctx.Err() != nil:
		d.result.Outcome = Interrupted
	case errors.Is(err, ErrUsage):
		d.result.Outcome = Refused
	case d.touched || d.undo:
		d.result.Outcome = Halfway
	case errors.Is(err, errAborted):
		d.result.Outcome = Aborted
	case errors.Is(err, errPaused):
		d.result.Outcome = Paused
	case d.switched:
		d.result.Outcome = Halfway
	default:
		d.result.Outcome = Failed
	}
	switch {
	case d.result.Outcome == Interrupted:
		d.problem(Problem{Reason: context.Cause(ctx).Error()})
	case err != nil:
		d.fail(err)
	}
	d.finalState(ctx)
	d.howToGoOn()
	d.result.LoadBalancers = d.board.bars()
	d.result.TookMS = time.Since(begun).Milliseconds()
	return d.result
}

// run is the deployment up to its first error.
func (d *Deployment) run(ctx context.Context) (err error) {
	listing, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	if d.Canary != nil {
		if listing, err = d.canary(ctx, listing); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				d.endRollout(ctx)
			}
		}()
		if err := d.keepWarm(ctx); err != nil {
			return err
		}
	}
	for {
		if err := d.bringInPromoted(ctx, listing); err != nil {
			return err
		}
		if listing, err = d.list(ctx, d.Timeout); err != nil {
			return err
		}
		if err := d.stillPromoted(ctx); err != nil {
			return err
		}
		if listing, err = d.takeOut(ctx, listing); err != nil {
			return err
		}
		if d.fleet.finished(listing) {
			if listing, err = d.reallyGone(ctx, listing); err != nil {
				return err
			}
		}
		if !d.fleet.finished(listing) {
			continue
		}
		if !d.touched {
			return nil // they were asked just now
		}
		return d.lostOr(ctx, d.confirm(ctx))
	}
}

// goneFor is how long old ones that were not stopped here must be missing from
// Consul's list until they count as gone. A Consul that has just started lists its
// instances one after another.
const goneFor = 10 * time.Second

// reallyGone asks again while old ones are missing that this deployment has not
// stopped: unknown is not gone.
func (d *Deployment) reallyGone(ctx context.Context, listing Listing) (Listing, error) {
	for begun := time.Now(); d.fleet.finished(listing) && d.fleet.misses(listing) && time.Since(begun) < goneFor; {
		if !pause(ctx, 0) {
			return listing, context.Cause(ctx)
		}
		var err error
		if listing, err = d.list(ctx, d.Timeout); err != nil {
			return listing, err
		}
	}
	return listing, nil
}

// prepare finds out what is there, and that every load balancer can be asked.
// Nothing has been done yet, so that whatever fails here needs no undoing.
func (d *Deployment) prepare(ctx context.Context) (Listing, error) {
	d.step(Step{Name: "check"}, 0)
	listing, err := d.list(ctx, lookTimeout)
	if err != nil {
		return listing, err
	}
	if d.fleet, err = newFleet(d.Order, listing); err != nil {
		return listing, err
	}
	d.result.Count, d.result.OldVersion = d.fleet.count, d.fleet.oldVersion(listing)
	for _, i := range d.fleet.fresh(listing) {
		d.baseline[i.Key()] = true
	}
	d.nameForeign(listing)
	if err := d.checkLoadBalancers(ctx); err != nil {
		return listing, err
	}
	d.say("%s %s: %d to start, %d old to stop, %s", d.Service, d.Version,
		d.fleet.count-d.fleet.goal, len(d.fleet.old(listing)), balancers(d.board.bars()))
	return listing, nil
}

// bringInPromoted is bringIn that ends when a rollout is no longer promoted.
func (d *Deployment) bringInPromoted(ctx context.Context, listing Listing) error {
	watched, end := d.whilePromoted(ctx)
	defer end()
	err := d.bringIn(watched, listing)
	if err != nil && watched.Err() != nil {
		return context.Cause(watched)
	}
	return err
}

// bringIn starts a wave, if one is to be started, and waits until every load
// balancer has all new ones live. If that fails it takes the wave back.
func (d *Deployment) bringIn(ctx context.Context, listing Listing) error {
	begun := time.Now()
	n := d.fleet.toStart()
	minHealthy := d.MinHealthy
	if d.fleet.finished(listing) || d.fleet.unshared && d.BlueGreen == nil {
		minHealthy = 0 // nothing depends on it
	}
	err := d.start(ctx, listing, n)
	if err == nil {
		err = d.awaitLive(ctx, minHealthy)
	}
	if err == nil {
		if n > 0 && minHealthy == 0 {
			d.say("%d of %s live on %s, after %s", d.fleet.goal, d.Version, balancers(d.board.bars()), seconds(time.Since(begun)))
		}
		return d.keep(ctx)
	}
	if ctx.Err() != nil {
		return err // the caller that has ended it goes on later
	}
	if errors.Is(err, errNotLive) {
		d.explain(ctx, begun)
	}
	if n > 0 {
		d.say("%s does not become live", d.Version)
		d.takeBack(ctx)
	}
	return err
}

// start starts n nodes.
func (d *Deployment) start(ctx context.Context, listing Listing, n int) error {
	d.proposed = nil
	if n == 0 {
		return nil
	}
	for i := range n {
		d.proposed = append(d.proposed, d.NodeID(d.fleet.first+i))
	}
	s := Start{
		Service: d.Service, Version: d.Version, OldVersion: safe(d.fleet.oldVersion(listing)),
		Total: d.fleet.count, First: d.fleet.first, IDs: d.proposed,
	}
	d.say("starting instances: %d", n)
	d.step(Step{Name: "start", Detail: fmt.Sprintf("%d instances of %s", n, d.Version)}, 0)
	d.fleet.started(n)
	d.result.Started += n
	return d.Nodes.Start(ctx, s)
}

// keep notes which new ones are live now: they are not taken back any more.
func (d *Deployment) keep(ctx context.Context) error {
	listing, err := d.list(ctx, d.Timeout)
	if err != nil {
		return err
	}
	for _, i := range d.fleet.fresh(listing) {
		d.baseline[i.Key()] = true
	}
	return nil
}

// safe is a text of the catalog for a command, or "" if it is not safe there.
func safe(s string) string {
	if CheckWord(s) != nil {
		return ""
	}
	return s
}

func (d *Deployment) say(format string, args ...any) { d.Say(fmt.Sprintf(format, args...)) }

func (d *Deployment) warn(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	d.result.Warnings = append(d.result.Warnings, line)
	d.say("warning: %s", line)
}

func (d *Deployment) problem(p Problem) { d.result.Problems = append(d.result.Problems, p) }

// lostOr explains an error that says that new ones are lost, and gives it back.
func (d *Deployment) lostOr(ctx context.Context, err error) error {
	gone, isLost := errors.AsType[*lostError](err)
	if !isLost || ctx.Err() != nil {
		return err
	}
	d.explainLost(ctx, gone.lost)
	if !d.switched {
		return err
	}
	r, unknown := d.Canary.Now(ctx)
	if unknown != nil || r.leaves() == nil {
		return err
	}
	d.problem(Problem{Reason: r.leaves().Error()})
	return errors.Join(err, r.leaves())
}

// fail takes each line of an error for a problem, unless the problems have been
// told in detail.
func (d *Deployment) fail(err error) {
	if _, isLost := errors.AsType[*lostError](err); isLost || errors.Is(err, errNotLive) || errors.Is(err, errNotDrained) || errors.Is(err, errNotStopped) {
		return
	}
	for line := range strings.Lines(err.Error()) { // joined errors have one each
		d.problem(Problem{Reason: strings.TrimRight(line, "\n")})
	}
}
