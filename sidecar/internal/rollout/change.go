package rollout

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Author is who makes a change, and when.
type Author struct {
	By string
	At time.Time
}

// ErrNone says that a service has no rollout.
var ErrNone = errors.New("no rollout is recorded; begin one with set or start")

// changed returns a copy of a document that a change has been made to. Nil is the
// document of a service that has none.
func (d *Document) changed(action string, a Author, change func(*Document)) *Document {
	is := *d
	is.Shares, is.Reason = maps.Clone(d.Shares), ""
	change(&is)
	is.ModifiedBy, is.ModifiedAt = a.By, a.At
	is.History = slices.Insert(slices.Clone(d.History), 0, Change{Action: action, Shares: maps.Clone(is.Shares), State: is.State, Reason: is.Reason, By: a.By, At: a.At})
	is.History = is.History[:min(len(is.History), maxHistory)]
	return &is
}

// New is the document of a service without a rollout.
func New(service string) *Document { return &Document{Schema: Schema, Service: service} }

// Serving is the version that has the traffic beside a canary: the stable one, or the
// canary that was promoted. "" where no document says.
func (d *Document) Serving() string {
	if d.State == Promoted {
		return d.Canary
	}
	return d.Stable
}

// Set returns the versions shares that stay until another change. stable may be "": then
// it is the one of before, else the version with the largest share.
func (d *Document) Set(a Author, shares map[string]int, stable string) (*Document, error) {
	if err := checkShares("shares", shares, false); err != nil {
		return nil, err
	}
	if stable == "" {
		before := d.Stable
		if now := d.Serving(); shares[before] == 0 && shares[now] < 100 {
			before = now
		}
		stable = stableOf(shares, before)
	}
	if _, isListed := shares[stable]; !isListed {
		return nil, errors.New("which version is the stable one? name it with --stable: abort goes back to it")
	}
	return d.changed("set", a, func(n *Document) {
		n.State, n.Shares, n.Stable = Paused, shares, stable
		n.Canary = other(shares, stable, d.Canary)
		if n.Canary != "" && shares[n.Canary] == 100 {
			n.State = Promoted
		}
		n.Steps, n.Interval, n.Analysis, n.Step, n.StepAt = nil, 0, "", 0, time.Time{}
	}), nil
}

func stableOf(shares map[string]int, before string) string {
	if _, isListed := shares[before]; isListed {
		return before
	}
	most, is := -1, ""
	for _, version := range slices.Sorted(maps.Keys(shares)) {
		switch {
		case shares[version] > most:
			most, is = shares[version], version
		case shares[version] == most:
			is = ""
		}
	}
	return is
}

// other is the canary beside a stable version.
func other(shares map[string]int, stable, before string) string {
	if _, isListed := shares[before]; isListed && before != stable {
		return before
	}
	if len(shares) == 2 {
		for version := range shares {
			if version != stable {
				return version
			}
		}
	}
	return ""
}

// Start begins to walk the canary's share up the steps. Other versions that have a share
// get none. analysis is "" or AnalysisOff.
func (d *Document) Start(a Author, stable, canary string, steps []int, interval time.Duration, analysis string) (*Document, error) {
	if err := errors.Join(CheckSteps(steps), CheckInterval(interval), CheckVersion(stable), CheckVersion(canary)); err != nil {
		return nil, err
	}
	if stable == canary {
		return nil, fmt.Errorf("the canary %s is the stable version", catalog.Printable(canary))
	}
	if len(d.Steps) > 0 && (d.State == Running || d.State == Paused) {
		return nil, fmt.Errorf("a rollout of %s is %s, by %s at %s: promote or abort it first", catalog.Printable(d.Canary), d.State, catalog.Printable(d.ModifiedBy), d.ModifiedAt.Format(time.RFC3339))
	}
	shares := maps.Clone(d.Shares)
	if shares == nil {
		shares = map[string]int{}
	}
	if shares[stable], shares[canary] = 0, 0; len(shares) > MaxVersions {
		return nil, fmt.Errorf("%d versions would have a share, want at most %d: leave some out with set", len(shares), MaxVersions)
	}
	return d.changed("start", a, func(n *Document) {
		n.State, n.Stable, n.Canary, n.Steps, n.Interval, n.Analysis = Running, stable, canary, slices.Clone(steps), Duration(interval), analysis
		n.Shares = shares
		n.goTo(0, a.At)
	}), nil
}

// goTo moves to a step.
func (d *Document) goTo(step int, now time.Time) {
	d.Step, d.StepAt = step, now
	d.canaryGets(d.Steps[step])
	d.State = Running
	if d.Steps[step] == 100 {
		d.State = Promoted
	}
}

// canaryGets gives the canary a share, and the stable version the rest.
func (d *Document) canaryGets(percent int) {
	for version := range d.Shares {
		d.Shares[version] = 0
	}
	d.Shares[d.Stable], d.Shares[d.Canary] = 100-percent, percent
}

// Promote goes to the next step at once, or to all traffic.
func (d *Document) Promote(a Author, isFull bool) (*Document, error) {
	switch {
	case len(d.Shares) == 0:
		return nil, ErrNone
	case d.Canary == "" || d.Stable == "":
		return nil, errors.New("which version is the canary? use set with the shares that you want")
	case d.State == Promoted:
		return nil, fmt.Errorf("%s is promoted already", catalog.Printable(d.Canary))
	case d.State == Aborted:
		return nil, fmt.Errorf("the rollout of %s was aborted: begin another one with start", catalog.Printable(d.Canary))
	}
	return d.changed("promote", a, func(n *Document) {
		if len(n.Steps) == 0 {
			n.canaryGets(100)
			n.State = Promoted
			return
		}
		next := min(n.Step+1, len(n.Steps)-1)
		if isFull {
			next = len(n.Steps) - 1
		}
		n.goTo(next, a.At)
	}), nil
}

// Pause keeps the current step until a resume.
func (d *Document) Pause(a Author, reason string) (*Document, error) {
	if d.State != Running {
		return nil, d.isNot(Running)
	}
	return d.changed("pause", a, func(n *Document) { n.State, n.Reason = Paused, reason }), nil
}

// Resume goes on with the current step, which lasts its whole interval again.
func (d *Document) Resume(a Author) (*Document, error) {
	if d.State != Paused || len(d.Steps) == 0 {
		return nil, d.isNot(Paused)
	}
	return d.changed("resume", a, func(n *Document) { n.State, n.StepAt = Running, a.At }), nil
}

func (d *Document) isNot(want State) error {
	if d.State == "" {
		return ErrNone
	}
	if d.State == want {
		return errors.New("the rollout has no steps: use set, promote or abort")
	}
	return fmt.Errorf("the rollout is %s, want one that is %s", d.State, want)
}

// Abort returns the stable version all traffic.
func (d *Document) Abort(a Author, reason string) (*Document, error) {
	switch {
	case len(d.Shares) == 0:
		return nil, ErrNone
	case d.Stable == "":
		return nil, errors.New("which version is the stable one? use set with the shares that you want")
	case d.State == Aborted:
		return nil, errors.New("it is aborted already")
	}
	return d.changed("abort", a, func(n *Document) { n.giveUp(reason) }), nil
}

// Prepared is the action of a change by which a deployment begins its rollout. An undo
// does not go back beyond it: the shares of before are those of another rollout.
const Prepared = "prepare"

// Undo returns the shares of before the last change of them, of the same rollout. They stay
// until another change. A version that had no share then gets 0: one that is not listed
// has traffic as without a rollout.
func (d *Document) Undo(a Author) (*Document, error) {
	before := d.sharesBefore()
	if before == nil {
		return nil, errors.New("no other shares are recorded since the rollout began")
	}
	shares := maps.Clone(before)
	for version := range d.Shares {
		if _, isListed := shares[version]; !isListed {
			shares[version] = 0
		}
	}
	if maps.Equal(shares, d.Shares) {
		return nil, errors.New("the last change gave no version another share: use set with the shares that you want")
	}
	n, err := d.Set(a, shares, stableOf(before, d.Stable))
	if err == nil {
		n.History[0].Action = "undo"
	}
	return n, err
}

// sharesBefore returns the shares of before the last change of them; nil where the current
// rollout had no others.
func (d *Document) sharesBefore() map[string]int {
	for _, c := range d.History {
		switch isEnd := len(c.Shares) == 0; {
		case isEnd && len(d.Shares) > 0:
			return nil
		case !isEnd && !maps.Equal(c.Shares, d.Shares):
			return c.Shares
		case c.Action == Prepared:
			return nil
		}
	}
	return nil
}

// End gives all instances their own weights again. The history stays.
func (d *Document) End(a Author) (*Document, error) {
	switch {
	case len(d.Shares) == 0:
		return nil, ErrNone
	case d.State != Promoted && d.State != Aborted:
		return nil, fmt.Errorf("the rollout is %s: promote or abort it first", d.State)
	}
	return d.changed("end", a, func(n *Document) {
		n.Shares, n.Stable, n.Canary = map[string]int{}, "", ""
		n.Steps, n.Interval, n.Analysis, n.Step, n.StepAt = nil, 0, "", 0, time.Time{}
	}), nil
}
