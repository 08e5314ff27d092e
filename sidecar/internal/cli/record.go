package cli

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/flight"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

func recordCommand(env Env) *cobra.Command {
	var without bool
	cmd := &cobra.Command{
		Use:   "record [FILE]",
		Short: "Save what the sidecar last saw and decided",
		Long: `Ask the running sidecar for its last decisions, with all that they were made from,
and write them to a file for a report of an error; to standard output for "-".
By default the file is named pointsman-NAME.json.gz; a name that ends in .gz is
compressed. "pointsman replay FILE" shows it.

The file has names and addresses of instances and the options of servers. It has no
tokens, keys or certificates; what agent-send sends and queries of check.path are
left out.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var f flight.File
			err := askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error {
				return c.Decisions(cmd.Context(), to, &f)
			})
			if err != nil {
				return err
			}
			if err := f.Check(); err != nil {
				return failure(fmt.Errorf("record: invalid answer: %w", err))
			}
			if without {
				f = f.WithoutChecks()
			}
			name := "pointsman-" + f.LoadBalancer + ".json.gz"
			if len(args) > 0 {
				name = args[0]
			}
			if name == "-" {
				return json.NewEncoder(env.Stdout).Encode(f)
			}
			if err := save(name, f); err != nil {
				return failure(fmt.Errorf("record: %w", err))
			}
			_, err = fmt.Fprintf(env.Stdout, "%s: %d decisions since %s\n", name, len(f.Decisions), since(f))
			return err
		},
	}
	cmd.Flags().BoolVar(&without, "without-checks", false, "leave out what health checks have answered")
	return cmd
}

// since is when the first decision was made.
func since(f flight.File) string {
	if len(f.Decisions) == 0 {
		return "the start"
	}
	return f.Decisions[0].At.Format("2006-01-02T15:04:05Z07:00")
}

// save writes a new file, for its owner alone: it must not be there.
func save(name string, f flight.File) (err error) {
	if strings.ContainsAny(f.LoadBalancer, `/\`) {
		return fmt.Errorf("name of the load balancer %s: give a file's name", catalog.Printable(f.LoadBalancer))
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(err, os.Remove(name)) // a part of it is of no use
		}
	}()
	var w io.WriteCloser = file
	if strings.HasSuffix(name, ".gz") {
		w = gzip.NewWriter(file)
	}
	if err := json.NewEncoder(w).Encode(f); err != nil || w == io.WriteCloser(file) {
		return err
	}
	return w.Close()
}

func replayCommand(env Env) *cobra.Command {
	var service string
	var all bool
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Make recorded decisions again",
		Long: `Read a file of "pointsman record" and make each decision again from what it was made
from: by this program's rules, which may be of another version than the sidecar's.
Those that took steps are shown, with their reasons, and all with --all.
Needs neither HAProxy nor Consul. Exits with 1 if a decision comes out differently.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := open(args[0])
			if err != nil {
				return failure(fmt.Errorf("replay %s: %w", args[0], err))
			}
			differ, err := replay(env.Stdout, f, service, all)
			if err == nil && differ > 0 {
				err = failure(fmt.Errorf("replay %s: %d of %d decisions differ", args[0], differ, len(f.Decisions)))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&service, "service", "", "only those for this service or backend")
	cmd.Flags().BoolVar(&all, "all", false, "show also those that took no step")
	return cmd
}

// open reads a file, which may be compressed.
func open(name string) (flight.File, error) {
	file, err := os.Open(name)
	if err != nil {
		return flight.File{}, err
	}
	defer func() { _ = file.Close() }() // it was read
	if !strings.HasSuffix(name, ".gz") {
		return flight.Read(file)
	}
	z, err := gzip.NewReader(file)
	if err != nil {
		return flight.File{}, err
	}
	return flight.Read(z)
}

// replay makes the decisions again and prints them. It gives how many differ.
func replay(w io.Writer, f flight.File, service string, all bool) (differ int, err error) {
	t := table(w)
	fmt.Fprintf(t, "load balancer %s, pointsman %s, written %s\n", catalog.Printable(f.LoadBalancer), catalog.Printable(cmp.Or(f.Version, "of no version")), f.Written.Format("2006-01-02T15:04:05Z07:00"))
	shown := 0
	for i, d := range f.Decisions {
		if service != "" && d.Service.Name != service && d.Service.Backend != service {
			continue
		}
		again, err := d.Again()
		isSame := err == nil && flight.IsSame(d.Outcome, again)
		if !isSame {
			differ++
		}
		if isSame && !all && len(d.Outcome.Steps) == 0 && d.Outcome.Reload == plan.NoReload {
			continue
		}
		shown++
		fmt.Fprintf(t, "%s\t%s\tdecision %d: %s\n", d.At.Format("15:04:05.000"), catalog.Printable(d.Service.Backend), i+1, seenText(d))
		for _, line := range outcomeLines(d.Outcome) {
			fmt.Fprintf(t, "\t\t  %s\n", visible(line))
		}
		switch {
		case err != nil:
			fmt.Fprintf(t, "\t\t  DIFFERS: %s\n", visible(err.Error()))
		case !isSame:
			fmt.Fprintf(t, "\t\t  DIFFERS: this program decides\n")
			for _, line := range outcomeLines(again) {
				fmt.Fprintf(t, "\t\t    %s\n", visible(line))
			}
		}
	}
	if shown == 0 {
		fmt.Fprintf(t, "no decision took a step\n")
	}
	return differ, t.Flush()
}

// seenText is what a decision was made from, in short.
func seenText(d *flight.Decision) string {
	text := fmt.Sprintf("Consul lists %d instances at index %d, HAProxy has %d servers", len(d.Consul.Instances), d.Consul.Index, len(d.HAProxy.Backends[d.Service.Backend].Servers))
	if !d.Consul.Known {
		text = "Consul has not answered"
	}
	if d.Repeated > 0 {
		text += fmt.Sprintf("; %d before it took no step either", d.Repeated)
	}
	return text
}

// outcomeLines is an outcome for people.
func outcomeLines(o plan.Outcome) (lines []string) {
	for _, s := range o.Steps {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Kind, serverText(s.Server, s.Instance), stepValue(s)))+": "+strings.ReplaceAll(string(s.Reason), "_", " "))
	}
	for _, x := range o.Waiting {
		line := fmt.Sprintf("%s waits for %s", serverText(cmp.Or(x.Server, x.Backend), x.Instance), x.For)
		if check := x.Check.String(); check != "" {
			line += ": " + check
		}
		lines = append(lines, line)
	}
	if o.Reload != plan.NoReload {
		lines = append(lines, "reload: "+string(o.Reload))
	}
	return lines
}

// serverText is a server with its instance, where that has another name.
func serverText(server, instance string) string {
	if instance == "" || instance == server {
		return server
	}
	return server + " (" + instance + ")"
}
