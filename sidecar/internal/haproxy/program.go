package haproxy

import (
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// ProgramCapabilities reads what `haproxy -v` prints ("HAProxy version 2.6.12
// …"): what a process will be able to do that does not run yet. It is zero for
// anything else.
func ProgramCapabilities(output string) plan.Capabilities {
	first, _, _ := strings.Cut(output, "\n")
	_, rest, found := strings.Cut(first, "version ")
	version, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if !found || releaseOf(version) == (release{}) {
		return plan.Capabilities{}
	}
	return capabilities(version)
}
