package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

func rolloutCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Share a service's traffic among its versions",
		Long: fmt.Sprintf(`Share a service's traffic among its versions, on all load balancers, without a reload.
The shares are a document in Consul, below %s; the sidecars make weights of
it. The commands run anywhere that reaches Consul. Their token needs key:write there,
for status and history key:read.

Exit codes: %d done, %d failed, %d invalid arguments, %d the rollout was changed by others
at the same time and nothing was done; of status also %d a rollout is under way, %d one
was aborted, or its document is invalid.`, rollout.Prefix, ExitOK, ExitFailure, ExitUsage, ExitLocked, ExitChanges, ExitDegraded),
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(rolloutSetCommand(env), rolloutStartCommand(env), rolloutPromoteCommand(env), rolloutStatusCommand(env), rolloutHistoryCommand(env))
	for _, c := range []struct {
		use, short, long string
	}{
		{
			"pause", "Stay at the current step until a resume",
			"Stay at the current step, with its shares, until a resume.",
		},
		{
			"resume", "Continue the steps after a pause",
			"Start the current step again after a pause, with its whole interval.",
		},
		{
			"abort", "Give the stable version all traffic",
			"Give the stable version all traffic at once. Instances of the others get no new\nrequest; they finish what they have.",
		},
		{
			"undo", "Restore the shares before the last change",
			"Restore the shares before the last change: within a rollout, one step back. They stay until\nanother change. It never reopens an earlier rollout. Versions added since then get 0%. It is\nrefused if the rollout had no other shares, as in the preview of a deployment. To go back to\nthe stable version, use \"abort\".",
		},
		{
			"end", "Give all instances their own weights again",
			"Give all instances their own weights again, after a rollout was promoted or aborted and\nthe instances of the other version are stopped. The history stays.",
		},
	} {
		cmd.AddCommand(rolloutChangeCommand(env, c.use, c.short, c.long))
	}
	return cmd
}

// rolloutChangeCommand is a command that takes no more than the service.
func rolloutChangeCommand(env Env, use, short, long string) *cobra.Command {
	var asJSON bool
	var reason string
	cmd := &cobra.Command{
		Use: use + " SERVICE", Short: short, Long: long,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFromConsul(env, false, rolledOut(use)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeRollout(cmd, env, args[0], asJSON, false, func(d *rollout.Document, a rollout.Author) (*rollout.Document, error) {
				return d.Do(use, a, reason)
			})
		},
	}
	if use == "abort" || use == "pause" {
		cmd.Flags().StringVar(&reason, "reason", "", "why, for the history")
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as JSON")
	return cmd
}

func rolloutSetCommand(env Env) *cobra.Command {
	var asJSON bool
	var stable string
	cmd := &cobra.Command{
		Use:   "set SERVICE VERSION=PERCENT...",
		Short: "Give versions shares that stay until another change",
		Long: `Give versions shares of the traffic, in whole percent and together 100, that stay until
another change: pointsman rollout set api 1.0=95 1.1=5. A version with 0 gets no new
request; its instances finish what they have. Instances of other versions keep what they
would get without a rollout.`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeFromConsul(env, false, registeredServices),
		RunE: func(cmd *cobra.Command, args []string) error {
			shares, err := sharesOf(args[1:])
			if err != nil {
				return &exitError{Code: ExitUsage, Err: err}
			}
			return changeRollout(cmd, env, args[0], asJSON, true, func(d *rollout.Document, a rollout.Author) (*rollout.Document, error) {
				return d.Set(a, shares, stable)
			})
		},
	}
	cmd.Flags().StringVar(&stable, "stable", "", "version that abort goes back to (default: as before, else the one with the largest share)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as JSON")
	return cmd
}

func rolloutPromoteCommand(env Env) *cobra.Command {
	var asJSON, full bool
	cmd := &cobra.Command{
		Use:   "promote SERVICE",
		Short: "Go to the next step at once, or to all traffic",
		Long: `Go to the next step at once, also from a pause. With --full, or without steps, the canary
gets all traffic.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFromConsul(env, false, rolledOut("promote")),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeRollout(cmd, env, args[0], asJSON, false, func(d *rollout.Document, a rollout.Author) (*rollout.Document, error) {
				return d.Promote(a, full)
			})
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "give the canary all traffic at once")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as JSON")
	return cmd
}

// sharesOf reads VERSION=PERCENT. A version may have = in it.
func sharesOf(args []string) (map[string]int, error) {
	shares := make(map[string]int, len(args))
	for _, arg := range args {
		i := strings.LastIndexByte(arg, '=')
		if i < 0 {
			return nil, fmt.Errorf("%q: want VERSION=PERCENT", arg)
		}
		version := arg[:i]
		percent, err := strconv.Atoi(strings.TrimSuffix(arg[i+1:], "%"))
		if err != nil {
			return nil, fmt.Errorf("%q: percent %q: want a whole number", arg, arg[i+1:])
		}
		if _, has := shares[version]; has {
			return nil, fmt.Errorf("%q: the version is named twice", arg)
		}
		shares[version] = percent
	}
	return shares, rollout.CheckShares(shares)
}

// changeRollout makes another document of the one that a service has, and shows it.
func changeRollout(cmd *cobra.Command, env Env, service string, asJSON, mayReplace bool, change func(*rollout.Document, rollout.Author) (*rollout.Document, error)) error {
	store, err := newRolloutStore(cmd, env)
	if err != nil {
		return err
	}
	defer store.KV.Close()
	d, err := store.Change(cmd.Context(), service, mayReplace, func(d *rollout.Document) (*rollout.Document, error) {
		return change(d, rollout.Author{By: deployer(env), At: time.Now().UTC().Truncate(time.Millisecond)})
	})
	if err != nil {
		return rolloutError(err)
	}
	if asJSON {
		return failure(json.NewEncoder(env.Stdout).Encode(d))
	}
	writeRollout(env.Stdout, d, nil, time.Now())
	return nil
}

func newRolloutStore(cmd *cobra.Command, env Env) (rollout.Store, error) {
	cfg, err := loadWithout(cmd, env)
	if err != nil {
		return rollout.Store{}, err
	}
	store, err := daemon.RolloutStore(cfg)
	return store, failure(err)
}

func rolloutError(err error) error {
	if _, is := errors.AsType[*rollout.ChangedError](err); is {
		return &exitError{Code: ExitLocked, Err: err}
	}
	return failure(daemon.WithRightsHint(err))
}

// rolloutsCode is the exit code: the worst of all.
func rolloutsCode(r daemon.Rollouts) int {
	worst := ExitOK
	for _, one := range r.Rollouts {
		d := one.Document
		switch {
		case d == nil, d.State == rollout.Aborted && len(d.Shares) > 0:
			return ExitDegraded
		case d.State == rollout.Running, d.State == rollout.Paused:
			worst = ExitChanges
		}
	}
	return worst
}

func rolloutStatusCommand(env Env) *cobra.Command {
	return rolloutReadCommand(env, &cobra.Command{
		Use:   "status [SERVICE]",
		Short: "Show the rollout of each service, from Consul",
		Long: fmt.Sprintf(`Show the rollout of each service: its shares, its steps with the current one, and who
changed it last. What HAProxy has of it is shown by "pointsman status SERVICE".

Exit codes: %d promoted, ended, or none is recorded; %d running or paused; %d aborted, or
the document is invalid; %d Consul does not answer.`, ExitOK, ExitChanges, ExitDegraded, ExitFailure),
	}, func(all daemon.Rollouts) error {
		for _, one := range all.Rollouts {
			if one.Document == nil {
				fmt.Fprintf(env.Stdout, "%s  %s\n", catalog.Printable(one.Service), visible(one.Problem))
				continue
			}
			writeRollout(env.Stdout, one.Document, one.Report, time.Now())
			for _, line := range optionLines(one.Document, one.Actions) {
				fmt.Fprintln(env.Stdout, "  "+line)
			}
		}
		return coded(rolloutsCode(all))
	})
}

func rolloutHistoryCommand(env Env) *cobra.Command {
	return rolloutReadCommand(env, &cobra.Command{
		Use:   "history [SERVICE]",
		Short: "List the last changes of each service's rollout, from Consul",
	}, func(all daemon.Rollouts) error {
		t := table(env.Stdout)
		fmt.Fprintln(t, "AT\tSERVICE\tCHANGE\tSTATE\tSHARES\tBY\tREASON")
		for _, one := range all.Rollouts {
			if one.Document == nil {
				continue
			}
			for _, c := range one.Document.History {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.At.Format(time.RFC3339), catalog.Printable(one.Service), visible(c.Action), c.State, rollout.SharesText(c.Shares), visible(c.By), visible(c.Reason))
			}
		}
		return failure(t.Flush())
	})
}

// rolloutReadCommand reads the rollouts and shows them.
func rolloutReadCommand(env Env, cmd *cobra.Command, show func(daemon.Rollouts) error) *cobra.Command {
	var asJSON bool
	cmd.Args, cmd.ValidArgsFunction = cobra.MaximumNArgs(1), completeFromConsul(env, false, rolledOut(""))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		store, err := newRolloutStore(cmd, env)
		if err != nil {
			return err
		}
		defer store.KV.Close()
		all, err := daemon.ReadRollouts(cmd.Context(), store, args)
		if err != nil {
			return rolloutError(err)
		}
		if asJSON {
			if err := json.NewEncoder(env.Stdout).Encode(all); err != nil || cmd.Name() != "status" {
				return failure(err)
			}
			return coded(rolloutsCode(all))
		}
		if len(all.Rollouts) == 0 {
			_, err := fmt.Fprintln(env.Stdout, "no rollout is recorded")
			return failure(err)
		}
		return show(all)
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// writeRollout shows a document, and what is known of its current step; nil: nothing.
// What stands in them may be anything.
func writeRollout(w io.Writer, d *rollout.Document, r *rollout.Report, now time.Time) {
	fmt.Fprintf(w, "%s  %s: %s\n", catalog.Printable(d.Service), d.State, d.SharesText())
	for _, line := range stepLines(d, r, now) {
		fmt.Fprintln(w, "  "+line)
	}
	if len(d.Shares) > 0 && d.Stable != "" {
		others := slices.DeleteFunc(d.Versions(), func(v string) bool { return v == d.Stable })
		fmt.Fprintf(w, "  stable %s, beside it %s\n", catalog.Printable(d.Stable), catalog.Printable(strings.Join(others, ", ")))
	}
	fmt.Fprintf(w, "  by %s at %s\n", visible(d.ModifiedBy), d.ModifiedAt.Format(time.RFC3339))
}

// stepLines are the steps of a rollout, what its comparison has counted, what it waits
// for, and why it is in its state. now may be zero: then times are shown as they are.
func stepLines(d *rollout.Document, r *rollout.Report, now time.Time) (lines []string) {
	if len(d.Steps) > 0 {
		parts := make([]string, 0, len(d.Steps))
		for i, s := range d.Steps {
			text := strconv.Itoa(s) + "%"
			switch {
			case len(d.Shares) == 0 || d.State == rollout.Aborted:
			case i < d.Step || d.State == rollout.Promoted:
				text += " ✓"
			case i == d.Step:
				text = "[" + text + "]"
			}
			parts = append(parts, text)
		}
		lines = append(lines, fmt.Sprintf("steps of %s: %s, each for %s", catalog.Printable(d.Canary), strings.Join(parts, "  "), time.Duration(d.Interval))+nextStep(d, r, now))
	}
	if d.Reason != "" {
		lines = append(lines, "reason: "+visible(d.Reason))
	}
	if r == nil {
		return lines
	}
	if n := r.Numbers; !n.At.IsZero() {
		for _, v := range []struct {
			version string
			is      rollout.Counted
		}{{d.Canary, n.Canary}, {d.Stable, n.Stable}} {
			lines = append(lines, catalog.Printable(v.version)+": "+countedText(v.is))
		}
	}
	if d.State == rollout.Running && r.Reason != "" {
		words := "waits: "
		if r.Verdict != rollout.Wait {
			words = "found: "
		}
		lines = append(lines, words+visible(r.Reason))
	}
	leads := "moved by " + visible(r.Leader)
	if n := r.Numbers; d.State == rollout.Running && !n.Next.IsZero() && !now.IsZero() {
		leads += fmt.Sprintf(", next look in %s", max(0, n.Next.Sub(now)).Round(time.Second))
	}
	return append(lines, leads)
}

// optionLines say what may be done with a rollout, and why the rest may not. One that has
// ended says only the first.
func optionLines(d *rollout.Document, options []rollout.Option) (lines []string) {
	var allowed []string
	for _, o := range options {
		switch {
		case o.Refused != "" && len(d.Shares) == 0:
		case o.Refused != "":
			lines = append(lines, "not "+o.Action+": "+visible(o.Refused))
		case maps.Equal(o.Shares, d.Shares):
			allowed = append(allowed, o.Action)
		case len(o.Shares) == 0:
			allowed = append(allowed, o.Action+" (own weights)")
		default:
			allowed = append(allowed, fmt.Sprintf("%s (%s)", o.Action, visible(rollout.SharesText(o.Shares))))
		}
	}
	if len(allowed) > 0 {
		lines = append([]string{"you may: " + strings.Join(allowed, ", ")}, lines...)
	}
	return lines
}

// nextStep says when a step ends at the earliest, and what comes then.
func nextStep(d *rollout.Document, r *rollout.Report, now time.Time) string {
	if d.State != rollout.Running || d.Step+1 >= len(d.Steps) {
		return ""
	}
	at := d.StepAt.Add(time.Duration(d.Interval))
	next := fmt.Sprintf("%d%%", d.Steps[d.Step+1])
	switch {
	case now.IsZero():
		return fmt.Sprintf("; %s at %s, if it is as good", next, at.Format(time.RFC3339))
	case now.Before(at):
		return fmt.Sprintf("; %s in %s, if it is as good", next, at.Sub(now).Round(time.Second))
	case r != nil && r.Verdict == rollout.Wait:
		return fmt.Sprintf("; %s as soon as it is known to be as good, since %s", next, now.Sub(at).Round(time.Second))
	}
	return fmt.Sprintf("; %s is due", next)
}

func countedText(c rollout.Counted) string {
	rate := 0.0
	if c.Requests > 0 {
		rate = 100 * float64(c.Errors) / float64(c.Requests)
	}
	text := fmt.Sprintf("%d requests, %d errors (%.2f %%), %d retries", c.Requests, c.Errors, rate, c.Retries)
	if c.ResponseTimeMS > 0 {
		text += fmt.Sprintf(", %g ms on average", c.ResponseTimeMS)
	}
	return text
}
