package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/internal/process"
	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/pause"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

type pauseOptions struct {
	sidecarOptions
	service, reason string
	hold, wait      time.Duration
	json            bool
}

func pauseCommand(env Env) *cobra.Command {
	var o pauseOptions
	cmd := &cobra.Command{
		Use:   "pause [SERVICE]",
		Short: "Let a service's requests wait in HAProxy; without a name, list the services that are paused",
		Long: fmt.Sprintf(`Let the new requests of a service wait in HAProxy, on all load balancers, until "resume" or
until --hold is over. The command waits until no server has a request from before the pause:
from then on a migration may run, until --hold is over. The service needs the setting
pause.max. The command runs anywhere that reaches Consul and the sidecars; its token needs
key:write below %s. A service that is paused gets the new deadline.

If a server still has such a request after --wait, the command ends the pause and exits with
1; an earlier pause is restored. With --wait 0s the command returns once the pause is
recorded, and asks no load balancer. SIGINT and SIGTERM during the wait end the command and
the pause; a second signal ends the command at once, and the pause stays. Without a name the
command lists the services that are paused on this load balancer.

Exit codes: %d no server has a request any more (with --wait 0s: recorded), %d failed, %d invalid arguments, %d the
pause was changed by others at the same time and nothing was done, 128+n ended by signal n.`, pause.Prefix, ExitOK, ExitFailure, ExitUsage, ExitLocked),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFromConsul(env, false, registeredServices),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listPauses(cmd, env, o.json)
			}
			o.service = args[0]
			return runPause(cmd, env, &o)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.hold, "hold", 30*time.Second, fmt.Sprintf("time until the pause ends by itself, 1s to %s; requests that wait for longer than pause.max get 503", pause.MaxHold))
	f.DurationVar(&o.wait, "wait", 10*time.Second, "longest wait until no server has a request of the service, at most half of --hold by default; 0s does not wait")
	f.StringVar(&o.reason, "reason", "", "why, for others")
	f.BoolVar(&o.json, "json", false, "print JSON")
	o.flags(f)
	return cmd
}

func resumeCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "resume SERVICE",
		Short: "End the pause of a service",
		Long: `End the pause of a service. Waiting requests continue within a second, on all load balancers.
The command returns once that is recorded in Consul. A service that is not paused stays as it
is. Exit codes: 0 done, or not paused; 1 failed; 2 invalid arguments; 8 changed by others at
the same time.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFromConsul(env, false, registeredServices),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, store, err := newPauseStore(cmd, env)
			if err != nil {
				return err
			}
			defer store.KV.Close()
			was, is, err := store.Change(cmd.Context(), args[0], pause.Change(deployer(env), "", 0, time.Now()))
			switch {
			case err != nil:
				return pauseError(err)
			case asJSON:
				return failure(json.NewEncoder(env.Stdout).Encode(resumedService{args[0], was != is, is}))
			case was == is:
				_, err = fmt.Fprintf(env.Stdout, "%s was not paused\n", catalog.Printable(args[0]))
			default:
				_, err = fmt.Fprintf(env.Stdout, "%s resumed\n", catalog.Printable(args[0]))
			}
			return failure(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// resumedService is the outcome of resume for scripts.
type resumedService struct {
	Service  string          `json:"service"`
	Ended    bool            `json:"ended"` // a pause; else the service was not paused
	Document *pause.Document `json:"document"`
}

func newPauseStore(cmd *cobra.Command, env Env) (config.Config, pause.Store, error) {
	cfg, err := loadWithout(cmd, env)
	if err != nil {
		return cfg, pause.Store{}, err
	}
	kv, err := consul.NewKV(daemon.ConsulOptions(cfg, hclog.NewNullLogger()))
	if err != nil {
		return cfg, pause.Store{}, &exitError{Code: ExitUsage, Err: err}
	}
	return cfg, pause.Store{KV: kv}, nil
}

func pauseError(err error) error {
	if _, is := errors.AsType[*pause.ChangedError](err); is {
		return &exitError{Code: ExitLocked, Err: err}
	}
	return failure(err)
}

// runPause pauses the service. What a signal cuts short ends with the signal's exit code.
func runPause(cmd *cobra.Command, env Env, o *pauseOptions) error {
	ctx, release := process.Signals(cmd.Context(), os.Exit)
	defer release()
	err := pauseUntil(ctx, cmd, env, o)
	if n := signalOf(ctx); n != 0 && err != nil {
		return &exitError{Code: 128 + int(n), Err: err}
	}
	return err
}

func pauseUntil(ctx context.Context, cmd *cobra.Command, env Env, o *pauseOptions) error {
	if !cmd.Flags().Changed("wait") {
		o.wait = min(o.wait, o.hold/2)
	}
	errWait := error(nil)
	if o.wait < 0 || o.wait >= o.hold {
		errWait = fmt.Errorf("--wait %s: must be 0s or more, and less than --hold %s", o.wait, o.hold)
	}
	if err := errors.Join(named("hold", pause.CheckHold(o.hold)), named("reason", consul.CheckText(o.reason)), errWait); err != nil {
		return &exitError{Code: ExitUsage, Err: err}
	}
	cfg, store, err := newPauseStore(cmd, env)
	if err != nil {
		return err
	}
	defer store.KV.Close()
	w := &pauseWait{service: o.service}
	if o.wait > 0 {
		if err := w.reach(cfg, env, &o.sidecarOptions); err != nil {
			return err
		}
		defer w.close()
		if err := w.check(ctx); err != nil {
			return failure(fmt.Errorf("%s was not paused: %w", catalog.Printable(o.service), err))
		}
	}
	was, is, err := store.Change(ctx, o.service, pause.Change(deployer(env), o.reason, o.hold, time.Now()))
	if err != nil && is != nil { // such as a signal: it may be recorded all the same
		return failure(fmt.Errorf("%w; %s", err, takeBack(ctx, store, was, is, deployer(env))))
	}
	if err != nil {
		return pauseError(err)
	}
	began := time.Now()
	if err := w.await(ctx, is.Until, o.wait); err != nil {
		return failure(fmt.Errorf("%w; %s", err, takeBack(ctx, store, was, is, deployer(env))))
	}
	return failure(w.print(env.Stdout, is, time.Since(began), o.json))
}

// takeBack ends a pause that has failed, unless others have changed it, and says so. The one
// before it is there again. One that is not recorded cannot be any more: Consul has a document
// that is newer than the one it was to replace.
func takeBack(ctx context.Context, store pause.Store, was, is *pause.Document, by string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sidecarapi.ActionTimeout)
	defer cancel()
	_, _, err := store.Change(ctx, is.Service, func(d *pause.Document) (*pause.Document, error) {
		if !d.Is(is) && !d.Is(was) {
			return nil, &pause.ChangedError{Service: is.Service, Is: d}
		}
		now := time.Now()
		if rest := was.Until.Sub(now); pause.CheckHold(rest) == nil {
			return d.Pause(by, was.Reason, now, rest), nil
		}
		return d.Resume(by, now), nil
	})
	switch {
	case err != nil:
		return fmt.Sprintf("the pause is not ended, requests may wait until %s: %v", is.Until.Local().Format(time.TimeOnly), err)
	case was.IsPaused(time.Now()):
		return "still paused until " + was.Until.Local().Format(time.TimeOnly) + ", as before"
	}
	return "the pause is ended"
}

// pausedService is the outcome for scripts.
type pausedService struct {
	Service       string             `json:"service"`
	Until         time.Time          `json:"until"`
	Waited        float64            `json:"waited_seconds"`
	LoadBalancers []sidecarapi.Pause `json:"load_balancers"` // as they were when no server had a request; empty with --wait 0s
}

// print shows what came of it.
func (w *pauseWait) print(out io.Writer, is *pause.Document, waited time.Duration, asJSON bool) error {
	all := pausedService{Service: is.Service, Until: is.Until, Waited: waited.Round(time.Millisecond).Seconds(), LoadBalancers: []sidecarapi.Pause{}}
	waiting := 0
	for _, seen := range w.seen {
		all.LoadBalancers = append(all.LoadBalancers, seen.Pause)
		waiting += seen.Waiting
	}
	slices.SortFunc(all.LoadBalancers, func(a, b sidecarapi.Pause) int { return cmp.Compare(a.LoadBalancer, b.LoadBalancer) })
	if asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	until := is.Until.Local().Format(time.TimeOnly)
	text := fmt.Sprintf("pause of %s recorded until %s; no load balancer was asked", catalog.Printable(is.Service), until)
	if len(w.seen) > 0 {
		text = fmt.Sprintf("%s is paused until %s", catalog.Printable(is.Service), until) + fmt.Sprintf("; no request is at a server of %d load balancers; waiting requests: %d", len(w.seen), waiting)
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// shownPause is one paused backend in the list.
type shownPause struct {
	Service string `json:"service"`
	Backend string `json:"backend"`
	reconcile.PauseState
}

func listPauses(cmd *cobra.Command, env Env, asJSON bool) error {
	var s reconcile.State
	if err := askState(cmd, env, &s); err != nil {
		return err
	}
	all := []shownPause{}
	for i := range s.Services {
		if svc := &s.Services[i]; svc.Pause != nil && !svc.Pause.Until.IsZero() {
			all = append(all, shownPause{svc.Name, svc.Backend, *svc.Pause})
		}
	}
	return failure(printList(env.Stdout, all, asJSON, "No service is paused.", "PAUSED\tBACKEND\tUNTIL\tBY\tREASON\tPROBLEM", func(p shownPause) []string {
		return []string{catalog.Printable(p.Service), catalog.Printable(p.Backend), p.Until.Local().Format(time.TimeOnly), catalog.Printable(p.ModifiedBy), cmp.Or(catalog.Printable(p.Reason), "-"), cmp.Or(catalog.Printable(p.Problem), "-")}
	}))
}
