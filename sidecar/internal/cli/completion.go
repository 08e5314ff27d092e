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
		count := map[string]int{}
		for i := range s.Services {
			for j := range s.Services[i].Instances {
				count[s.Services[i].Instances[j].ID]++
			}
		}
		for i := range s.Services {
			for _, inst := range s.Services[i].Instances {
				if count[inst.ID] == 1 && shellWord.MatchString(inst.ID) {
					names = append(names, inst.ID)
				} else {
					names = append(names, s.Services[i].Backend+"/"+inst.Server)
				}
			}
		}
		return names
	})
}
