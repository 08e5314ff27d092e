package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// canaryOptions are the flags of a deployment by a rollout.
type canaryOptions struct {
	steps        []int
	interval     time.Duration
	isCompared   bool
	pauseTimeout time.Duration

	blueGreen     bool
	keep, preview time.Duration
}

// isShared reports whether a rollout gives the new version its traffic.
func (o *canaryOptions) isShared() bool { return len(o.steps) > 0 || o.blueGreen }

func (o *canaryOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntSliceVar(&o.steps, "canary", nil, "shares of the new version in percent, ascending, the last 100, such as 5,25,50,100; old instances are stopped after the last (default: all traffic as soon as it is live)")
	f.DurationVar(&o.interval, "interval", time.Minute, "with --canary: shortest duration of a step, 1s to 168h")
	f.BoolVar(&o.isCompared, "analysis", true, "with --canary: compare the new version with the old one by HAProxy's counters, and abort it where it is worse; =false: a step ends with its interval")
	f.BoolVar(&o.blueGreen, "blue-green", false, "start the new instances without traffic, then switch all traffic to them by one change; old instances are stopped after --keep")
	f.DurationVar(&o.keep, "keep", 10*time.Minute, "with --blue-green: how long the old instances run after the switch, to go back to by pointsman rollout undo")
	f.DurationVar(&o.preview, "preview", 0, "with --blue-green: longest wait for pointsman rollout promote, which switches all traffic; 0s switches as soon as the new instances have been ready for --min-healthy")
	f.DurationVar(&o.pauseTimeout, "pause-timeout", 30*time.Minute, "with --canary: longest wait until a paused rollout is resumed, promoted or aborted")
}

// check names all that is wrong.
func (o *canaryOptions) check(cmd *cobra.Command, batch int, isRedeploy bool) (errs []error) {
	errs = append(errs, o.checkBlueGreen(cmd, batch, isRedeploy)...)
	if !cmd.Flags().Changed("canary") {
		return append(errs, requires(cmd, "--canary", "interval", "analysis", "pause-timeout")...)
	}
	errs = append(errs, named("canary", rollout.CheckSteps(o.steps)), named("interval", rollout.CheckInterval(o.interval)))
	if o.pauseTimeout < 0 {
		errs = append(errs, fmt.Errorf("--pause-timeout %s: must be 0s or more", o.pauseTimeout))
	}
	if batch > 0 {
		errs = append(errs, errors.New("--canary: cannot be combined with --batch: all new instances start before the first step"))
	}
	if isRedeploy {
		errs = append(errs, errors.New("--canary: cannot be combined with --redeploy: a rollout tells versions apart"))
	}
	return errs
}

// requires refuses flags that say nothing without another.
func requires(cmd *cobra.Command, other string, flags ...string) (errs []error) {
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			errs = append(errs, fmt.Errorf("--%s: requires %s", name, other))
		}
	}
	return errs
}

func (o *canaryOptions) checkBlueGreen(cmd *cobra.Command, batch int, isRedeploy bool) (errs []error) {
	if !o.blueGreen {
		return requires(cmd, "--blue-green", "keep", "preview")
	}
	if cmd.Flags().Changed("canary") {
		errs = append(errs, errors.New("--blue-green: cannot be combined with --canary: it has no steps"))
	}
	if batch > 0 {
		errs = append(errs, errors.New("--blue-green: cannot be combined with --batch: all new instances start before the switch"))
	}
	if isRedeploy {
		errs = append(errs, errors.New("--blue-green: cannot be combined with --redeploy: a rollout tells versions apart"))
	}
	if o.keep < 0 || o.preview < 0 {
		errs = append(errs, fmt.Errorf("--keep %s, --preview %s: must be 0s or more", o.keep, o.preview))
	}
	return errs
}

// canaryRollout is the rollout of a deployment, in Consul.
type canaryRollout struct {
	store            rollout.Store
	service, version string
	options          canaryOptions
	by               string
}

var _ deploy.Canary = (*canaryRollout)(nil)

func (c *canaryRollout) author() rollout.Author {
	return rollout.Author{By: c.by, At: time.Now().UTC().Truncate(time.Millisecond)}
}

// errUnchanged says that a document is as it should be.
var errUnchanged = errors.New("nothing to change")

// change changes the document, unless change says errUnchanged.
func (c *canaryRollout) change(ctx context.Context, change func(*rollout.Document) (*rollout.Document, error)) (deploy.Rollout, error) {
	var is *rollout.Document
	var refused error
	changed, err := c.store.Change(ctx, c.service, false, func(d *rollout.Document) (*rollout.Document, error) {
		is = d
		n, err := change(d)
		refused = err
		return n, err
	})
	switch {
	case errors.Is(err, errUnchanged):
		return c.seen(is), nil
	case refused != nil:
		return deploy.Rollout{}, err
	case err != nil:
		return deploy.Rollout{}, unanswered(err)
	}
	return c.seen(changed), nil
}

// unanswered tells an error of Consul that may go away, or a change by others at the same
// time, from one that stays.
func unanswered(err error) error {
	_, isInvalid := errors.AsType[*rollout.InvalidError](err)
	switch {
	case consul.IsForbidden(err):
		return fmt.Errorf("%w: the Consul token needs key:write for %s", err, rollout.Prefix)
	case isInvalid:
		return err
	}
	return &deploy.UnansweredError{Err: err}
}

// Prepare implements deploy.Canary.
func (c *canaryRollout) Prepare(ctx context.Context, stable string, again bool) (deploy.Rollout, error) {
	if err := errors.Join(rollout.CheckVersion(stable), rollout.CheckVersion(c.version)); err != nil {
		return deploy.Rollout{}, fmt.Errorf("%w: canary %s beside %s: %w", deploy.ErrUsage, catalog.Printable(c.version), catalog.Printable(stable), err)
	}
	return c.change(ctx, func(d *rollout.Document) (*rollout.Document, error) {
		isOwn := d.Canary == c.version && d.Stable == stable && len(d.Shares) > 0
		switch isWalking := isWalking(d); {
		case isWalking && isOwn && c.differs(d) != nil:
			return nil, c.differs(d)
		case isWalking && isOwn, isOwn && d.State == rollout.Promoted && !again:
			return nil, errUnchanged
		case isWalking:
			return nil, underWay(d)
		case d.State == rollout.Paused && d.Shares[c.version] > 0:
			return nil, fmt.Errorf("%s has a share of %d%% by %s: raise it by `pointsman rollout start`, or set it to 0 first", catalog.Printable(c.version), d.Shares[c.version], catalog.Printable(d.ModifiedBy))
		}
		shares := map[string]int{}
		for version := range d.Shares {
			shares[version] = 0 // a version that had no traffic must not get any by this
		}
		shares[stable], shares[c.version] = 100, 0
		if len(shares) > rollout.MaxVersions {
			return nil, fmt.Errorf("%d versions would have a share, want at most %d: `pointsman rollout end %s` forgets them%s; those with share 0 get traffic then, so stop their instances first",
				len(shares), rollout.MaxVersions, catalog.Printable(c.service), beforeEnd(d))
		}
		if isOwn && d.State == rollout.Paused && maps.Equal(shares, d.Shares) {
			return nil, errUnchanged
		}
		n, err := d.Set(c.author(), shares, stable)
		if err == nil {
			n.Canary, n.History[0].Action = c.version, rollout.Prepared
		}
		return n, err
	})
}

// differs says how a rollout that is under way differs from what is asked for; nil: it
// does not.
func (c *canaryRollout) differs(d *rollout.Document) error {
	var has, give []string
	if !slices.Equal(d.Steps, c.options.steps) {
		has, give = append(has, "the steps "+commas(d.Steps)), append(give, "--canary "+commas(d.Steps))
	}
	if interval := time.Duration(d.Interval); interval != c.options.interval {
		has, give = append(has, "the interval "+interval.String()), append(give, "--interval "+interval.String())
	}
	if isCompared := d.Analysis != rollout.AnalysisOff; isCompared != c.options.isCompared {
		has, give = append(has, fmt.Sprintf("analysis=%t", isCompared)), append(give, fmt.Sprintf("--analysis=%t", isCompared))
	}
	if len(give) == 0 {
		return nil
	}
	return fmt.Errorf("it is %s with %s: give %s to continue, or abort it first", d.State, strings.Join(has, ", "), strings.Join(give, " "))
}

// isWalking reports whether a rollout is on its steps.
func isWalking(d *rollout.Document) bool {
	return len(d.Steps) > 0 && (d.State == rollout.Running || d.State == rollout.Paused)
}

func underWay(d *rollout.Document) error {
	return fmt.Errorf("a rollout of %s is %s, by %s at %s: promote or abort it first", catalog.Printable(d.Canary), d.State, catalog.Printable(d.ModifiedBy), d.ModifiedAt.Format(time.RFC3339))
}

// Start implements deploy.Canary.
func (c *canaryRollout) Start(ctx context.Context) (deploy.Rollout, error) {
	return c.change(ctx, func(d *rollout.Document) (*rollout.Document, error) {
		if c.seen(d).State != deploy.Prepared { // by a call before that got no answer, or by others
			return nil, errUnchanged
		}
		analysis := rollout.AnalysisOff
		if c.options.isCompared {
			analysis = ""
		}
		return d.Start(c.author(), d.Stable, c.version, c.options.steps, c.options.interval, analysis)
	})
}

// Switch implements deploy.Canary.
func (c *canaryRollout) Switch(ctx context.Context) (deploy.Rollout, error) {
	return c.change(ctx, func(d *rollout.Document) (*rollout.Document, error) {
		if c.seen(d).State != deploy.Prepared { // by a call before that got no answer, or by others
			return nil, errUnchanged
		}
		return d.Promote(c.author(), true)
	})
}

// Now implements deploy.Canary.
func (c *canaryRollout) Now(ctx context.Context) (deploy.Rollout, error) {
	d, _, err := c.store.Read(ctx, c.service)
	if err != nil {
		return deploy.Rollout{}, unanswered(err)
	}
	if d == nil {
		d = rollout.New(c.service)
	}
	r := c.seen(d)
	if report, err := c.store.Report(ctx, d); err == nil && report != nil && !report.Numbers.At.IsZero() { // else without numbers
		n := report.Numbers
		r.Numbers = fmt.Sprintf("%s: %s; %s: %s", catalog.Printable(d.Canary), countedText(n.Canary), catalog.Printable(d.Stable), countedText(n.Stable))
		if report.Verdict == rollout.Wait {
			r.Numbers += "; waits: " + visible(report.Reason)
		}
	}
	return r, nil
}

// Abort implements deploy.Canary.
func (c *canaryRollout) Abort(ctx context.Context, reason string) (deploy.Rollout, error) {
	return c.change(ctx, func(d *rollout.Document) (*rollout.Document, error) {
		switch c.seen(d).State {
		case deploy.Promoted, deploy.RolloutAborted, deploy.RolloutReplaced:
			return nil, errUnchanged
		case deploy.Prepared, deploy.Walking, deploy.RolloutPaused:
		}
		return d.Abort(c.author(), rollout.Text(reason))
	})
}

// End implements deploy.Canary. A rollout that has ended, or never was, is as well.
func (c *canaryRollout) End(ctx context.Context) error {
	_, err := c.change(ctx, func(d *rollout.Document) (*rollout.Document, error) {
		switch {
		case len(d.Shares) == 0, d.Canary != c.version:
			return nil, errUnchanged
		case d.State == rollout.Aborted: // then a person decides
			return nil, fmt.Errorf("it was aborted by %s at %s, and %s keeps share 0", catalog.Printable(d.ModifiedBy), d.ModifiedAt.Format(time.RFC3339), catalog.Printable(c.version))
		}
		return d.End(c.author())
	})
	return err
}

// seen is a document as a deployment sees it.
func (c *canaryRollout) seen(d *rollout.Document) deploy.Rollout {
	r := deploy.Rollout{
		State: deploy.RolloutReplaced, Share: d.Shares[c.version], StepAt: d.StepAt, Interval: time.Duration(d.Interval), Reason: d.Reason, By: d.ModifiedBy, At: d.ModifiedAt,
	}
	if d.Canary != c.version || len(d.Shares) == 0 {
		return r
	}
	if next := d.Step + 1; next < len(d.Steps) {
		r.Next = d.Steps[next]
	}
	switch d.State {
	case rollout.Running:
		r.State = deploy.Walking
	case rollout.Promoted:
		r.State = deploy.Promoted
	case rollout.Aborted:
		r.State = deploy.RolloutAborted
	case rollout.Paused:
		r.State = deploy.RolloutPaused
		if len(d.Steps) == 0 && r.Share == 0 {
			r.State, r.Next = deploy.Prepared, 100
			if len(c.options.steps) > 0 {
				r.Next = c.options.steps[0]
			}
		}
	}
	return r
}

func commas(steps []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(steps), " ", ","), "[]")
}

// mayDeploy refuses a deployment that a rollout is in the way of: its new instances would get
// no traffic, or more than the rollout gives them. Where that cannot be known, the
// deployment finds out itself.
func mayDeploy(ctx context.Context, cfg config.Config, o *deployOptions, screen *deployScreen) error {
	store, err := daemon.RolloutStore(cfg)
	if err != nil {
		return err
	}
	defer store.KV.Close()
	d, _, err := store.Read(ctx, o.service)
	if err != nil {
		screen.say("warning: " + err.Error())
		return nil
	}
	if d == nil {
		return nil
	}
	isShared := o.canary.isShared()
	share, isListed := d.Shares[o.version]
	switch {
	case isShared && (!isWalking(d) || d.Canary == o.version):
	case isWalking(d):
		return failure(fmt.Errorf("deploy %s: %w; `pointsman deploy --canary` continues the rollout of the same version", catalog.Printable(o.service), underWay(d)))
	case isListed && share == 0:
		return failure(fmt.Errorf("deploy %s: its rollout gives %s no share of the traffic (%s: %s, by %s at %s), so new instances would not become live: give --canary 5,25,50,100 or --blue-green, or run `pointsman rollout end %s` first%s",
			catalog.Printable(o.service), catalog.Printable(o.version), d.State, d.SharesText(), catalog.Printable(d.ModifiedBy), d.ModifiedAt.Format(time.RFC3339), catalog.Printable(o.service), beforeEnd(d)))
	}
	return nil
}

// beforeEnd says what must come before an end of the rollout.
func beforeEnd(d *rollout.Document) string {
	if d.State == rollout.Paused || d.State == rollout.Running {
		return ", after `pointsman rollout abort`"
	}
	return ""
}
