package cli

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// shellWord is what every shell takes as it is. A shell puts a completion on the command
// line unquoted, and anyone who may register an instance chooses its ID.
var shellWord = regexp.MustCompile(`^[\w][\w.:@/-]*$`)

// complete completes the first argument with names of the running sidecar's state; with
// none where it cannot be asked.
func complete(env Env, names func(*reconcile.State) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) (words []cobra.Completion, _ cobra.ShellCompDirective) {
		var s reconcile.State
		if len(args) > 0 || askState(cmd, env, &s) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return wordsOf(names(&s)), cobra.ShellCompDirectiveNoFileComp
	}
}

func wordsOf(names []string) (words []cobra.Completion) {
	for _, name := range names {
		if shellWord.MatchString(name) {
			words = append(words, name)
		}
	}
	return words
}

// completionWait is how long a completion waits for Consul: someone waits at a terminal.
const completionWait = 3 * time.Second

// completeFromConsul completes the first argument, or a flag, with names from Consul, for
// commands that run without a sidecar; with none where it does not answer.
func completeFromConsul(env Env, isFlag bool, names func(context.Context, config.Config) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		cfg, err := loadWithout(cmd, env)
		if err != nil || len(args) > 0 && !isFlag {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionWait)
		defer cancel()
		found, err := names(ctx, cfg)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return wordsOf(found), cobra.ShellCompDirectiveNoFileComp
	}
}

// registeredServices gives the services that have instances in Consul, without Consul's own
// and the sidecars'.
func registeredServices(ctx context.Context, cfg config.Config) ([]string, error) {
	_, services, err := catalogServices(ctx, cfg)
	return slices.DeleteFunc(services, func(s string) bool { return s == "consul" || s == cfg.API.Service }), err
}

// catalogServices lists the services in Consul, sorted, and gives the way to it.
func catalogServices(ctx context.Context, cfg config.Config) (*api.Client, []string, error) {
	options, err := daemon.ConsulOptions(cfg, hclog.NewNullLogger()).API()
	if err != nil {
		return nil, nil, err
	}
	client, err := api.NewClient(options)
	if err != nil {
		return nil, nil, err
	}
	services, _, err := client.Catalog().Services((&api.QueryOptions{}).WithContext(ctx))
	return client, slices.Sorted(maps.Keys(services)), err
}

// rolledOut gives the services with a rollout that allows an action; "": with one.
func rolledOut(action string) func(context.Context, config.Config) ([]string, error) {
	return func(ctx context.Context, cfg config.Config) (names []string, err error) {
		store, err := daemon.RolloutStore(cfg)
		if err != nil {
			return nil, err
		}
		defer store.KV.Close()
		all, err := daemon.ReadRollouts(ctx, store, nil)
		for _, one := range all.Rollouts {
			if action == "" || slices.ContainsFunc(one.Actions, func(o rollout.Option) bool { return o.Action == action && o.Refused == "" }) {
				names = append(names, one.Service)
			}
		}
		return names, err
	}
}

// recordedServices gives the services with a recorded deployment; isUndo: with one that can
// be taken back.
func recordedServices(isUndo bool) func(context.Context, config.Config) ([]string, error) {
	return func(ctx context.Context, cfg config.Config) (names []string, err error) {
		book, err := daemon.NewBook(cfg)
		if err != nil {
			return nil, err
		}
		defer book.KV.Close()
		pages, err := book.All(ctx)
		for _, s := range daemon.DeploymentsOf(pages, time.Now()).Services {
			if !isUndo || s.UndoID != "" {
				names = append(names, s.Service)
			}
		}
		return names, err
	}
}

// completeService completes the flag --service.
func completeService(cmd *cobra.Command, env Env, names func(context.Context, config.Config) ([]string, error)) *cobra.Command {
	if err := cmd.RegisterFlagCompletionFunc("service", completeFromConsul(env, true, names)); err != nil {
		panic(err) // the command has no such flag
	}
	return cmd
}

func completeServices(env Env) cobra.CompletionFunc { return complete(env, servicesOf) }

// completeServers completes with the IDs of instances; with BACKEND/SERVER where an ID is no
// word, or that of several.
func completeServers(env Env) cobra.CompletionFunc {
	return complete(env, func(s *reconcile.State) (names []string) {
		// A service may have several backends, with the same instance in each.
		type instance struct{ service, id, node string }
		count, isSeen := map[string]int{}, map[instance]bool{}
		isFirst := func(svc *reconcile.ServiceState, inst *reconcile.InstanceState) bool {
			is := instance{svc.Name, inst.ID, inst.Node}
			was := isSeen[is]
			isSeen[is] = true
			return !was
		}
		for i := range s.Services {
			for j := range s.Services[i].Instances {
				if inst := &s.Services[i].Instances[j]; isFirst(&s.Services[i], inst) {
					count[inst.ID]++
				}
			}
		}
		clear(isSeen)
		for i := range s.Services {
			svc := &s.Services[i]
			for j := range svc.Instances {
				switch inst := &svc.Instances[j]; {
				case count[inst.ID] != 1 || !shellWord.MatchString(inst.ID):
					names = append(names, svc.Backend+"/"+inst.Server)
				case isFirst(svc, inst):
					names = append(names, inst.ID)
				}
			}
		}
		return names
	})
}
