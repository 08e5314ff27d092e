package templates_test

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/templates"
)

// Each line was measured (docs/haproxy-facts.md): without it a deployment, a
// reload or a node that dies loses requests.
func TestTheTemplateHasTheZeroLossRecipe(t *testing.T) {
	for line, why := range map[string]string{
		"option redispatch 1":                   "a retry goes to another server at once",
		"retry-on":                              "requests of a server that died are sent again",
		"http-request disable-l7-retry unless ": "a POST is not executed twice",
		"option idle-close-on-response":         "a reload cuts no idle client off in its next request",
		"hard-stop-after":                       "old workers end",
		"mworker-max-reloads":                   "there are not more and more of them",
		"expose-fd listeners":                   "a reload closes no listener",
		"http-check expect status 200-299":      "a server that answers with an error is not up",
	} {
		if !strings.Contains(templates.HAProxy, line) {
			t.Errorf("no %q: %s", line, why)
		}
	}
	for word, why := range map[string]string{
		"on-marked-down":       "maint would cut requests in flight",
		"load-server-state":    "a state file restores ports without addresses (docs/haproxy-facts.md, fact 4)",
		"server-state-file":    "a state file restores ports without addresses (docs/haproxy-facts.md, fact 4)",
		"default-server":       "add server ignores it, and the file would differ from the runtime",
		"shutdown-sessions":    "requests in flight would be cut",
		"http-reuse never":     "each request would connect again",
		"option httpclose":     "each request would connect again",
		"option forceclose":    "each request would connect again",
		"no option redispatch": "a dead server would keep its requests",
	} {
		if strings.Contains(templates.HAProxy, word) {
			t.Errorf("%q is in it: %s", word, why)
		}
	}
}
