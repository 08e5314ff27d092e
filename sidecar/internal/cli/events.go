package cli

import (
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
	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/event"
)

// eventPoll is how often events --follow asks for new ones.
const eventPoll = 500 * time.Millisecond

func eventsCommand(env Env) *cobra.Command {
	var follow, asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "events [SERVICE]",
		Short: "Show what has happened on this load balancer",
		Long: `Ask the running sidecar for its newest events: servers added, drained and deleted,
weights, reloads, the guard, failures. With SERVICE only those of this service or
backend. With --follow new events are printed until Ctrl-C.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 || limit > event.Capacity {
				return &exitError{Code: ExitUsage, Err: fmt.Errorf("--limit %d: must be a number, 1 to %d", limit, event.Capacity)}
			}
			show := printer(env.Stdout, strings.Join(args, ""), limit, asJSON)
			return askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error {
				read := func(after uint64) (all api.Events, err error) {
					err = c.Events(cmd.Context(), to, after, event.Capacity, &all)
					return all, err
				}
				return followEvents(cmd.Context(), read, show, follow)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print new events as they happen, until Ctrl-C")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each event as a line of JSON")
	cmd.Flags().IntVar(&limit, "limit", 50, "most events to begin with")
	return cmd
}

// followEvents shows the newest events, and with follow those that come.
func followEvents(ctx context.Context, read func(after uint64) (api.Events, error), show func(e api.Events, isFirst bool) error, follow bool) error {
	for after, isFirst := uint64(0), true; ; isFirst = false {
		e, err := read(after)
		if err == nil {
			err = show(e, isFirst)
		}
		if ctx.Err() != nil && !isFirst {
			return nil
		}
		if err != nil || !follow {
			return err
		}
		after = e.Last
		daemon.Sleep(ctx, eventPoll)
	}
}

// printer prints events of a service or backend, "" for all: at first at most limit.
func printer(w io.Writer, service string, limit int, asJSON bool) func(api.Events, bool) error {
	return func(all api.Events, isFirst bool) error {
		own := slices.DeleteFunc(slices.Clone(all.Events), func(e event.Event) bool {
			return service != "" && e.Service != service && e.Backend != service
		})
		if isFirst {
			own = own[max(0, len(own)-limit):]
		}
		var errs []error
		if all.Missed && !isFirst && !asJSON {
			_, err := fmt.Fprintln(w, "(some events are missing)")
			errs = append(errs, err)
		}
		for _, e := range own {
			if asJSON {
				errs = append(errs, json.NewEncoder(w).Encode(e))
				continue
			}
			_, err := fmt.Fprintf(w, "%s  %s%s\n", e.At.Format(time.RFC3339), eventPlace(e), eventText(e))
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

// eventPlace is what an event is about, with a space after it; "" for the load balancer.
func eventPlace(e event.Event) string {
	place := e.Service
	if e.Backend != "" && e.Backend != e.Service {
		place = e.Backend
	}
	name := e.Instance
	if name == "" {
		name = e.Server
	} else if e.Server != "" && e.Server != name {
		name += " (" + e.Server + ")"
	}
	if name != "" {
		place += "/" + name
	}
	if place == "" {
		return ""
	}
	return visible(place) + " "
}
