package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// watchPace is how often --watch asks.
const watchPace = time.Second

type statusOptions struct {
	json, watch, all, fleet bool
	timeout                 time.Duration
	service                 string // or a backend; "" is all
}

func statusCommand(env Env) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [SERVICE | BACKEND]",
		Short: "Show the status of this load balancer as a tree",
		Long: fmt.Sprintf(`Ask the running sidecar and show the status of this load balancer: the verdict with
its reasons, HAProxy, Consul, and the services with their versions and instances.
Of a service with more than %d instances those that take traffic are only counted.
With --watch on a terminal with too few lines, services in step are hidden first, and
the last line says how many.

Exit codes: %d in step, %d behind (something is under way), %d degraded (an operator
should look), %d HAProxy does not run or cannot be read, %d the sidecar cannot be asked.
With SERVICE or BACKEND, what concerns others does not count.

With --fleet the sidecar asks all others that are registered in Consul, and the
status is the worst of all load balancers. One that is not reachable, or runs
something else than the others for longer than 15 s, is degraded.`,
			maxListed, ExitOK, ExitChanges, ExitDegraded, ExitNotRunning, ExitUnreachable),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeServices(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.service = args[0]
			}
			if o.fleet {
				return showFleet(cmd, env, o)
			}
			return showStatus(cmd, env, o)
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON, as /api/v1/state has it")
	cmd.Flags().BoolVar(&o.fleet, "fleet", false, "show all load balancers; --json as /api/v1/fleet has it")
	cmd.Flags().BoolVar(&o.all, "all", false, "list every instance")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "show it again when it changes; ends when nothing is under way any more")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 10*time.Minute, "with --watch: ends after this time at the latest")
	return cmd
}

func showStatus(cmd *cobra.Command, env Env, o statusOptions) error {
	var s daemon.JudgedState
	err := watchStatus(cmd, env, o, func(c *sidecarapi.Client, to sidecarapi.Target) (view, error) {
		s = daemon.JudgedState{}
		if err := c.State(cmd.Context(), to, &s); err != nil {
			return view{}, err
		}
		if s.State == nil {
			return view{}, errNoState
		}
		if !o.json {
			var all daemon.Rollouts
			if err := c.Rollouts(cmd.Context(), to, &all); err == nil { // else without: the state says why Consul is away
				s.Rollouts = all.Rollouts
			}
		}
		isThere := o.service == "" || keepService(&s, o.service)
		return view{body: s, isThere: isThere, isFinal: isFinal(&s), tree: func(t *tree) { t.state(s) }}, nil
	})
	if err != nil {
		return err
	}
	return statusError(s.Verdict.Status)
}

func showFleet(cmd *cobra.Command, env Env, o statusOptions) error {
	var f fleet.Fleet
	err := watchStatus(cmd, env, o, func(c *sidecarapi.Client, to sidecarapi.Target) (view, error) {
		f = fleet.Fleet{}
		if err := c.Fleet(cmd.Context(), to, &f); err != nil {
			return view{}, err
		}
		isThere := o.service == "" || keepOfFleet(&f, o.service)
		return view{body: f, isThere: isThere, isFinal: isFleetFinal(&f), tree: func(t *tree) { t.fleet(f) }}, nil
	})
	if err != nil {
		return err
	}
	return statusError(f.Status)
}

// statusError returns the exit code of a status.
func statusError(s reconcile.Status) error {
	code, known := statusCodes[s]
	if !known {
		code = ExitDegraded
	}
	if code != ExitOK {
		return &exitError{Code: code}
	}
	return nil
}

// view is one answer, to be shown.
type view struct {
	body    any // for --json
	tree    func(*tree)
	isThere bool // it has the service that was asked for
	isFinal bool // nothing is under way
}

// watchStatus asks and shows, with --watch until nothing is under way.
func watchStatus(cmd *cobra.Command, env Env, o statusOptions, ask func(*sidecarapi.Client, sidecarapi.Target) (view, error)) error {
	screen := newStatusScreen(env, o)
	isThere := true
	err := askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
		defer cancel()
		for {
			v, err := ask(c, to)
			if err != nil {
				return err
			}
			if isThere = v.isThere; !isThere {
				return nil
			}
			if err := screen.show(v); err != nil {
				return err
			}
			if !o.watch || v.isFinal || ctx.Err() != nil {
				return nil
			}
			daemon.Sleep(ctx, watchPace)
		}
	})
	if err != nil {
		if coded, ok := errors.AsType[*exitError](err); ok && coded.Code == ExitFailure {
			coded.Code = ExitUnreachable
		}
		return err
	}
	if !isThere {
		who := "this load balancer does not route"
		if o.fleet {
			who = "no load balancer that was reached routes"
		}
		return failure(fmt.Errorf("status %s: %s the service", catalog.Printable(o.service), who))
	}
	return nil
}

var statusCodes = map[reconcile.Status]int{reconcile.InStep: ExitOK, reconcile.Behind: ExitChanges, reconcile.Degraded: ExitDegraded, reconcile.NotRunning: ExitNotRunning}

// keepService keeps one service, or one backend, and what of the verdict concerns it or
// the whole. It reports whether it is there.
func keepService(s *daemon.JudgedState, name string) bool {
	isService := slices.ContainsFunc(s.Services, func(x reconcile.ServiceState) bool { return x.Name == name })
	isIt := func(service, backend string) bool {
		return isService && service == name || !isService && backend == name
	}
	s.Services = slices.DeleteFunc(s.Services, func(x reconcile.ServiceState) bool { return !isIt(x.Name, x.Backend) })
	s.Verdict.Reasons = slices.DeleteFunc(s.Verdict.Reasons, func(f reconcile.Finding) bool { return f.Service != "" && !isIt(f.Service, f.Backend) })
	s.Verdict.Status = reconcile.InStep
	if len(s.Verdict.Reasons) > 0 { // the worst comes first
		s.Verdict.Status = s.Verdict.Reasons[0].Status
	}
	return len(s.Services) > 0
}

// isFinal reports whether nothing is under way that would end by itself. A rollout that
// walks its steps does.
func isFinal(s *daemon.JudgedState) bool {
	for _, one := range s.Rollouts {
		if one.Document != nil && one.Document.State == rollout.Running && slices.ContainsFunc(s.Services, func(x reconcile.ServiceState) bool { return x.Name == one.Service }) {
			return false
		}
	}
	return s.Verdict.Status == reconcile.NotRunning || !slices.ContainsFunc(s.Verdict.Reasons, func(f reconcile.Finding) bool { return f.Status == reconcile.Behind })
}

// statusScreen shows a status, and with --watch the next ones: on a terminal in
// the same place, elsewhere below, each that differs.
type statusScreen struct {
	out     io.Writer
	options statusOptions
	colour  bool
	size    func() (width, height int) // of the terminal; nil: it is none
	last    string
}

func newStatusScreen(env Env, o statusOptions) *statusScreen {
	s := &statusScreen{out: env.Stdout, options: o, size: terminalSize(env.Stdout)}
	s.colour = s.size != nil && !slices.ContainsFunc(env.Environ, func(v string) bool {
		return v == "TERM=dumb" || strings.HasPrefix(v, "NO_COLOR=") && v != "NO_COLOR="
	})
	return s
}

func (s *statusScreen) show(v view) error {
	var b bytes.Buffer
	inPlace, width, rows := s.options.watch && s.size != nil && !s.options.json, 0, 0
	if inPlace {
		width, rows = s.size()
	}
	if s.options.json {
		e := json.NewEncoder(&b)
		if !s.options.watch {
			e.SetIndent("", "  ")
		}
		if err := e.Encode(v.body); err != nil {
			return err
		}
	} else {
		t := tree{out: &b, colour: s.colour, all: s.options.all || s.options.service != ""}
		if !s.options.watch || s.size != nil { // else it would differ each second
			t.now = time.Now()
		}
		t.rows = rows
		v.tree(&t)
	}
	text := b.String()
	if inPlace {
		lines := strings.SplitAfter(text, "\n")
		for i, line := range lines {
			lines[i] = cutVisible(line, width)
		}
		text = home + strings.Join(lines, "")
	} else if text == s.last {
		return nil
	}
	s.last = text
	_, err := io.WriteString(s.out, text)
	return err
}

// home is the terminal's order to go to the first line, and erase all.
const home = "\x1b[H\x1b[J"

// cutVisible cuts a line to a width; colours take none.
func cutVisible(line string, width int) string {
	seen, isColour := 0, false
	for i, r := range line {
		switch {
		case r == '\x1b':
			isColour = true
		case isColour:
			isColour = r != 'm'
		case r == '\n':
		default:
			if seen++; seen >= width {
				return line[:i] + noColour + "\n"
			}
		}
	}
	return line
}
