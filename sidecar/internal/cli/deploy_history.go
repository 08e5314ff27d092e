package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/history"
)

// deploymentsCode is the exit code: of the newest deployment of each service, the worst.
func deploymentsCode(d daemon.Deployments) int {
	worst := ExitOK
	for _, s := range d.Services {
		if s.Problem != "" {
			worst = ExitDegraded
		}
		if len(s.Deployments) == 0 {
			continue
		}
		switch s.Deployments[0].State {
		case history.UnderWay:
			worst = max(worst, ExitChanges)
		case history.Failed, history.Lost:
			worst = ExitDegraded
		case history.Done:
		}
	}
	return worst
}

func deployStatusCommand(env Env) *cobra.Command {
	var service string
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the newest deployment of each service, from Consul",
		Long: fmt.Sprintf(`Show the newest deployment of each service: its steps with the time each took, the
current one with its deadline and what happens then, and what each load balancer
waits for. It runs anywhere that reaches Consul.

Exit codes: %d done, or none is recorded; %d one is under way; %d one failed, or ended
without a result; 1 Consul does not answer.`, ExitOK, ExitChanges, ExitDegraded),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var last string
			for {
				all, err := readDeployments(cmd, env, service)
				if err != nil {
					return err
				}
				var b strings.Builder
				if asJSON {
					err = json.NewEncoder(&b).Encode(all)
				} else {
					writeDeployments(&b, all, time.Now(), !watch)
				}
				if text := b.String(); err == nil && text != last {
					last = text
					_, err = io.WriteString(env.Stdout, text)
				}
				if err != nil {
					return failure(err)
				}
				code := deploymentsCode(all)
				if !watch || code != ExitChanges || cmd.Context().Err() != nil {
					return coded(code)
				}
				daemon.Sleep(cmd.Context(), watchPace)
			}
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "service name in Consul (default: all)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as /api/v1/deployments has it")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again when it changes; ends with the deployment")
	return completeService(cmd, env, recordedServices(false))
}

func deployHistoryCommand(env Env) *cobra.Command {
	var service string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the last deployments of each service, from Consul",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := readDeployments(cmd, env, service)
			if err != nil {
				return err
			}
			if asJSON {
				return failure(json.NewEncoder(env.Stdout).Encode(all))
			}
			return failure(writeHistory(env.Stdout, all))
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "service name in Consul (default: all)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, as /api/v1/deployments has it")
	return completeService(cmd, env, recordedServices(false))
}

func deployUndoCommand(env Env) *cobra.Command {
	var o deployOptions
	cmd := &cobra.Command{
		Use:   "undo --service NAME (--start CMD --stop CMD | --compose SERVICE)",
		Short: "Deploy the version that ran before the last deployment",
		Long: `Deploy the version that ran before the newest recorded deployment that changed
something: one that is done, partially deployed, interrupted or without a result.
All is as with deploy, except that --version comes from the record. The commands
are never taken from the record: anybody who may write keys in Consul could have
put them there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.service == "" {
				return &exitError{Code: ExitUsage, Err: errors.New("--service: required")}
			}
			cfg, err := loadWithout(cmd, env)
			if err != nil {
				return err
			}
			book, err := daemon.NewBook(cfg)
			if err != nil {
				return err
			}
			defer book.KV.Close()
			page, err := book.Read(cmd.Context(), o.service)
			if err != nil {
				return failure(err)
			}
			found := false
			if o.version, o.undoes, found = page.Before(); !found {
				return failure(fmt.Errorf("undo %s: no deployment that replaced a version is recorded; `pointsman deploy --version` deploys the one that you name", catalog.Printable(o.service)))
			}
			if o.compose == "" && (o.start == "" || o.stop == "") {
				return &exitError{Code: ExitUsage, Err: fmt.Errorf("undo %s: it would deploy %s again: --start and --stop, or --compose: required, since the record has no commands", catalog.Printable(o.service), catalog.Printable(o.version))}
			}
			return runDeploy(cmd, env, &o)
		},
	}
	o.flags(cmd)
	_ = cmd.Flags().MarkHidden("version") // it is there
	return completeService(cmd, env, recordedServices(true))
}

func readDeployments(cmd *cobra.Command, env Env, service string) (daemon.Deployments, error) {
	cfg, err := loadWithout(cmd, env)
	if err != nil {
		return daemon.Deployments{}, err
	}
	book, err := daemon.NewBook(cfg)
	if err != nil {
		return daemon.Deployments{}, err
	}
	defer book.KV.Close()
	if service == "" {
		pages, err := book.All(cmd.Context())
		return daemon.DeploymentsOf(pages, time.Now()), failure(err)
	}
	page, err := book.Read(cmd.Context(), service)
	if err != nil || !page.IsThere() {
		return daemon.DeploymentsOf(nil, time.Now()), failure(err)
	}
	return daemon.DeploymentsOf([]history.Page{page}, time.Now()), nil
}

// writeDeployments prints the newest deployment of each service. What stands in the
// record may be anything.
func writeDeployments(w io.Writer, all daemon.Deployments, now time.Time, isOnce bool) {
	if len(all.Services) == 0 {
		fmt.Fprintln(w, "no deployment is recorded")
	}
	for _, s := range all.Services {
		if s.Problem != "" {
			fmt.Fprintf(w, "%s  record unreadable: %s\n", catalog.Printable(s.Service), visible(s.Problem))
			continue
		}
		if len(s.Deployments) == 0 {
			fmt.Fprintf(w, "%s  no deployment is recorded\n", catalog.Printable(s.Service))
			continue
		}
		d := s.Deployments[0]
		took := ""
		if isOnce || d.State != history.UnderWay {
			took = ", " + seconds(d.TookMS)
		}
		fmt.Fprintf(w, "%s %s  %s%s, by %s at %s\n", catalog.Printable(d.Service), versions(d.Deployment), outcomeOf(d), took, visible(d.By), d.Started.Format(time.RFC3339))
		for _, step := range d.Steps {
			mark, extra := "✓", ""
			switch {
			case step.Failed:
				mark = "✗"
			case step.Ended.IsZero():
				mark = "…"
				if !step.Deadline.IsZero() && d.State == history.UnderWay {
					extra = ", until " + step.Deadline.Format(time.TimeOnly) + ", then: " + step.AtDeadline
				}
			}
			if end := step.Ended; !end.IsZero() {
				extra = "  " + seconds(end.Sub(step.Started).Milliseconds())
			} else if isOnce && d.State == history.UnderWay {
				extra = "  " + seconds(now.Sub(step.Started).Milliseconds()) + extra
			}
			fmt.Fprintf(w, "  %s %s: %s%s\n", mark, visible(cmp.Or(step.Name, "?")), visible(step.Detail), visible(extra))
		}
		for _, b := range d.LoadBalancers {
			line := fmt.Sprintf("%s  live %d of %d", b.Name, b.Live, b.Want)
			if b.Of > 0 {
				line += fmt.Sprintf(", drained %d of %d", b.Drained, b.Of)
			}
			if b.Trouble != "" {
				line += ", unreachable: " + b.Trouble
			} else if b.Waits != "" && d.State != history.Done {
				line += ", waits: " + b.Waits
			}
			fmt.Fprintf(w, "  %s\n", visible(line))
		}
		for _, p := range d.Problems {
			fmt.Fprintf(w, "  ! %s\n", visible(p))
		}
	}
}

// writeHistory prints one line for each deployment.
func writeHistory(w io.Writer, all daemon.Deployments) error {
	t := table(w)
	fmt.Fprintln(t, "STARTED\tSERVICE\tVERSION\tRESULT\tTOOK\tBY")
	for _, s := range all.Services {
		for _, d := range s.Deployments {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Started.Format(time.RFC3339), catalog.Printable(d.Service), versions(d.Deployment), outcomeOf(d), seconds(d.TookMS), visible(d.By))
		}
	}
	return t.Flush()
}

// versions says from which version to which.
func versions(d history.Deployment) string {
	text := catalog.Printable(d.Version)
	if d.OldVersion != "" && d.OldVersion != d.Version {
		text = catalog.Printable(d.OldVersion) + " → " + text
	}
	if d.Undoes != "" {
		text += " (undo)"
	}
	return text
}

func outcomeOf(d daemon.OneDeployment) string {
	switch d.State {
	case history.UnderWay:
		return "under way"
	case history.Lost:
		return "ended without a result"
	case history.Done, history.Failed:
	}
	return visible(string(d.Outcome))
}

func seconds(ms int64) string { return fmt.Sprintf("%.1fs", float64(ms)/1000) }

// coded is the error of an exit code of which everything has been said.
func coded(code int) error {
	if code == ExitOK {
		return nil
	}
	return &exitError{Code: code}
}
