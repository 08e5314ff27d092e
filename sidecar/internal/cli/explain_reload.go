package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func explainReloadCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Show why a reload is due, and what it waits for",
		Long: `Ask the running sidecar whether a reload of HAProxy is due, why the runtime socket
is not enough, what the reload waits for, and how the last ones went.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, happened, err := stateAndEvents(cmd, env)
			if err != nil {
				return err
			}
			return explainReload(env.Stdout, s.State, happened, time.Now())
		},
	}
}

// errNoState is an answer of something else than a sidecar.
var errNoState = errors.New("invalid answer: it has no state")

// stateAndEvents asks this machine's sidecar for both.
func stateAndEvents(cmd *cobra.Command, env Env) (s daemon.JudgedState, _ []event.Event, err error) {
	var happened api.Events
	err = askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) (err error) {
		if err = c.State(cmd.Context(), to, &s); err == nil {
			err = c.Events(cmd.Context(), to, 0, event.Capacity, &happened)
		}
		return err
	})
	if err == nil && s.State == nil {
		err = failure(errNoState)
	}
	return s, happened.Events, err
}

// reloadReasons says why the runtime socket is not enough.
var reloadReasons = map[plan.ReloadReason]string{
	plan.NotOurs:         "HAProxy runs a configuration that this sidecar has not written",
	plan.ServiceAdded:    "HAProxy has no backend for a service that was added",
	plan.ServiceRemoved:  "HAProxy has a backend of a service that was removed",
	plan.SettingsChanged: "settings changed that HAProxy reads from its file only",
	plan.TemplateChanged: "the template has changed",
	plan.SlotsExhausted:  "an instance has no free slot, and this HAProxy or balance algorithm takes no servers at runtime",
	plan.WeightsChanged:  "a weight changed that this balance algorithm or agent check takes from the file only",
	plan.Requested:       "an operator asked for it",
}

// waitsForReload says what ends a wait.
func waitsForReload(r reconcile.ReloadState, h reconcile.HAProxyState, now time.Time) string {
	switch {
	case r.UnderWay:
		return "nothing: it is under way"
	case r.WaitsFor != "":
		text := r.WaitsFor
		if h.OldWorkers > 0 {
			text += fmt.Sprintf(" (%d with %d MiB when they were last counted)", h.OldWorkers, h.OldWorkersMemory>>20)
		}
		return text + ": they end with their connections, or after haproxy.global.hard_stop_after (limits: reload.max_old_workers, reload.max_old_workers_memory)"
	case r.NotBefore.After(now) && r.Error != "":
		return fmt.Sprintf("until %s, because the last one failed", r.NotBefore.Format(time.RFC3339))
	case r.NotBefore.After(now):
		return fmt.Sprintf("until %s, for further changes (reload.debounce, reload.max_delay) and after the last reload (reload.min_interval)", r.NotBefore.Format(time.RFC3339))
	}
	return "the next look at HAProxy"
}

// explainReload prints what is known of reloads.
func explainReload(w io.Writer, s *reconcile.State, events []event.Event, now time.Time) error {
	t := table(w)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, visible(fmt.Sprintf(format, args...)))
	}
	r := s.Reloads
	switch {
	case !s.HAProxy.Running:
		row("reload", "none: HAProxy does not run or cannot be read")
	case r.Pending == "":
		row("reload", "none due: HAProxy runs what it needs from its file")
	default:
		row("reload", "due, %s: %s", r.Pending, reloadReason(r.Pending))
		row("waits", "%s", waitsForReload(r, s.HAProxy, now))
	}
	for _, c := range r.For {
		row("for", "backend %s, not at runtime: %s", c.Backend, c.Why)
	}
	for _, q := range s.ReloadRequests {
		row("requested", "%s", requestText(q))
	}
	for _, l := range s.File.LeftOut {
		row("left out", "service %s, because HAProxy rejects its lines: %s", l.Service, l.Error)
	}
	if r.Error != "" {
		row("error", "%s", r.Error)
	}
	if r.Last.IsZero() {
		row("last", "none since the sidecar started at %s", s.Started.Format(time.RFC3339))
	} else {
		row("last", "%s, %s", r.Last.Format(time.RFC3339), r.LastReason)
	}
	for _, c := range r.LastFor {
		row("it was for", "backend %s, not at runtime: %s", c.Backend, c.Why)
	}
	row("so far", "%d succeeded, %d failed", r.Succeeded, r.Failed)
	row("old workers", "%d", s.HAProxy.OldWorkers)
	for _, e := range newest(events, func(e event.Event) bool { return e.Kind == event.ReloadDone || e.Kind == event.ReloadFailed }) {
		row(e.At.Format(time.TimeOnly), "%s", eventText(e))
	}
	return t.Flush()
}

// requestText says what became of an operator's request.
func requestText(q reconcile.ReloadRequest) string {
	text := fmt.Sprintf("by %s at %s: %s", q.By, q.At.Format(time.RFC3339), strings.ReplaceAll(string(q.Status), "_", " "))
	if q.Error != "" {
		text += ": " + q.Error
	}
	return text
}

// reloadReason says why the runtime socket is not enough.
func reloadReason(pending string) string {
	return cmp.Or(reloadReasons[plan.ReloadReason(pending)], "a reason that this program does not know")
}
