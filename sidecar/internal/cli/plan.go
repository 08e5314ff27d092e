package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

func planCommand(env Env) *cobra.Command {
	var asJSON, code, withDiff bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show the next changes to HAProxy, with reasons",
		Long: `Query Consul and HAProxy once and show the next steps with reasons, what waits
and for what, and whether a reload is needed. With --diff also how haproxy.cfg on
disk differs from the one that run would write. Changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadWhole(cmd, env)
			if err != nil {
				return err
			}
			r, err := daemon.NewRenderer(cfg)
			if err != nil {
				return &exitError{Code: ExitUsage, Err: err}
			}
			snap, err := daemon.CatalogOnce(cmd.Context(), cfg)
			if err != nil {
				return failure(err)
			}
			o, err := daemon.ObserveOnce(cmd.Context(), cfg)
			if err != nil {
				return failure(err)
			}
			if base := cfg.HAProxy.BaseConfig; base != "" && o.Running && o.Marker == (plan.Marker{}) {
				return failure(daemon.WithoutOurs(base, cfg.HAProxy.Config))
			}
			drains, err := daemon.NewStateFile(cfg).Read()
			if err != nil {
				return failure(err)
			}
			foreign := daemon.Takeover(cmd.Context(), cfg, r, o.Running)
			if foreign != nil && !daemon.IsRefusal(foreign) {
				return failure(foreign)
			}
			o.Drained = reconcile.Drained(drains, daemon.Policy(cfg, r))
			p := plan.Compute(plan.Desired{Marker: r.Marker(), Services: daemon.Policy(cfg, r), Rotation: daemon.InRotation(cfg)}, o, snap)
			shown := shownPlan{observed: o, plan: p, drains: drains, refused: foreign}
			if withDiff {
				if shown.diff, err = fileDiff(cfg.HAProxy.Config, r, p.File); err != nil {
					return failure(err)
				}
			}
			show := shown.print
			if asJSON {
				show = shown.printJSON
			}
			if err := show(env.Stdout); err != nil {
				return failure(err)
			}
			if code && (!p.Empty() || !o.Running) {
				return &exitError{Code: ExitChanges}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&withDiff, "diff", false, "show how haproxy.cfg on disk differs from the one that run would write")
	cmd.Flags().BoolVar(&code, "exit-code", false, fmt.Sprintf("exit with %d if there are changes", ExitChanges))
	return cmd
}

// fileDiff returns how a haproxy.cfg differs from what is rendered, as a unified diff; nil
// if it does not. A file that is not there is an empty one.
func fileDiff(path string, r *render.Renderer, model []plan.FileBackend) ([]byte, error) {
	want, err := r.Render(model)
	if err != nil {
		return nil, err
	}
	have, err := render.ReadRegular(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return diff.Diff(path, have, path+" (rendered)", want), nil
}

// shownPlan is what the command shows.
type shownPlan struct {
	observed plan.Observed
	plan     plan.Plan
	drains   []catalog.OperatorDrain
	refused  error // why run does not do it; nil where it does
	diff     []byte
}

func (s shownPlan) print(w io.Writer) error {
	o, p, drains := s.observed, s.plan, s.drains
	if s.refused != nil {
		if _, err := fmt.Fprintf(w, "pointsman run refuses this plan: %v\n\n", s.refused); err != nil {
			return err
		}
	}
	t := table(w)
	switch {
	case !o.Running:
		fmt.Fprintln(t, "No HAProxy process answers. HAProxy will start from haproxy.cfg (see pointsman render).")
	case p.Empty() && len(p.Waiting) == 0:
		fmt.Fprintf(t, "No changes: HAProxy %s (pid %d) matches Consul.\n", o.Caps.Version, o.PID)
	}
	if len(p.Steps) > 0 {
		fmt.Fprintln(t, "STEP\tBACKEND\tSERVER\tINSTANCE\tREASON\tVALUE")
	}
	for _, s := range p.Steps {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Kind, s.Backend, dash(s.Server), dash(catalog.Printable(s.Instance)), s.Reason, stepValue(s))
	}
	if p.Reload != plan.NoReload {
		fmt.Fprintf(t, "reload: %s\n", p.Reload)
	}
	if len(p.Waiting) > 0 {
		fmt.Fprintln(t, "WAITING\tBACKEND\tSERVER\tINSTANCE\tCHECK")
	}
	for _, x := range p.Waiting {
		fmt.Fprintf(t, "for %s\t%s\t%s\t%s\t%s\n", x.For, x.Backend, dash(x.Server), dash(catalog.Printable(x.Instance)), x.Check)
	}
	err := t.Flush() // the writer keeps the first error
	if err == nil && len(drains) > 0 {
		err = printDrains(w, drains, false)
	}
	if err == nil && s.diff != nil {
		_, err = fmt.Fprintf(w, "\n%s", visibleLines(s.diff))
	}
	return err
}

// visibleLines is a text for a terminal: a file that another has written may hold anything.
func visibleLines(text []byte) string {
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		lines[i] = visible(line)
	}
	return strings.Join(lines, "\n")
}

func stepValue(s plan.Step) string {
	switch s.Kind {
	case plan.Add, plan.SetAddr:
		return s.Addr.String()
	case plan.SetWeight:
		if s.Percent {
			return fmt.Sprintf("%d%%", s.Weight)
		}
		return fmt.Sprint(s.Weight)
	case plan.SetMaxConn:
		return fmt.Sprint(s.MaxConn)
	case plan.Delete, plan.SetReady, plan.SetDrain, plan.SetMaint, plan.EnableHealth, plan.EnableAgent, plan.DisableAgent, plan.Shutdown,
		plan.AddBackend, plan.PublishBackend, plan.UnpublishBackend, plan.DeleteBackend:
	}
	return ""
}

func dash(s string) string { return cmp.Or(s, "-") }

type planJSON struct {
	Running bool                    `json:"haproxy_up"`
	Version string                  `json:"haproxy_version,omitempty"`
	Reload  string                  `json:"reload,omitempty"`
	Steps   []stepJSON              `json:"steps"`
	Waiting []waitingJSON           `json:"waiting"`
	Drains  []catalog.OperatorDrain `json:"operator_drains"`
	Refused string                  `json:"refused,omitempty"` // why run does not do it
	Diff    string                  `json:"diff,omitempty"`    // of haproxy.cfg, with --diff
}

type stepJSON struct {
	Kind     plan.Kind   `json:"kind"`
	Reason   plan.Reason `json:"reason"`
	Backend  string      `json:"backend"`
	Server   string      `json:"server"`
	Instance string      `json:"instance,omitempty"`
	Value    string      `json:"value,omitempty"`
}

type waitingJSON struct {
	For      plan.WaitReason `json:"for"`
	Backend  string          `json:"backend"`
	Server   string          `json:"server,omitempty"`
	Instance string          `json:"instance,omitempty"`
	Sessions int             `json:"sessions,omitempty"`
	Check    string          `json:"check,omitempty"` // HAProxy's last one, of a server that is down
}

func (s shownPlan) printJSON(w io.Writer) error {
	o, p, drains := s.observed, s.plan, s.drains
	out := planJSON{Running: o.Running, Version: o.Caps.Version, Reload: string(p.Reload), Steps: []stepJSON{}, Waiting: []waitingJSON{}, Drains: append([]catalog.OperatorDrain{}, drains...), Diff: string(s.diff)}
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, stepJSON{Kind: s.Kind, Reason: s.Reason, Backend: s.Backend, Server: s.Server, Instance: s.Instance, Value: stepValue(s)})
	}
	for _, x := range p.Waiting {
		out.Waiting = append(out.Waiting, waitingJSON{For: x.For, Backend: x.Backend, Server: x.Server, Instance: x.Instance, Sessions: x.Sessions, Check: x.Check.String()})
	}
	if s.refused != nil {
		out.Refused = s.refused.Error()
	}
	return printJSON(w, out)
}
