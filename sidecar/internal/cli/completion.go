package cli

import (
	"regexp"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// shellWord is what every shell takes as it is. A shell puts a completion on the command
// line unquoted, and anyone who may register an instance chooses its ID.
var shellWord = regexp.MustCompile(`^[\w][\w.:@/-]*$`)

// complete completes the first argument with names of the running sidecar's state; with
// none where it cannot be asked.
func complete(env Env, names func(*reconcile.State) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) (words []cobra.Completion, _ cobra.ShellCompDirective) {
		var s reconcile.State
		if len(args) > 0 || askOwn(cmd, env, func(c *sidecarapi.Client, to sidecarapi.Target) error { return c.State(cmd.Context(), to, &s) }) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, name := range names(&s) {
			if shellWord.MatchString(name) {
				words = append(words, name)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
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
