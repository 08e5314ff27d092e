package sim

import (
	"os/exec"
	"testing"
)

// TestMutations_EveryPattern_FindsItsCode keeps the list of what
// tools/sim-mutations.sh takes away in step with the code. It runs no history.
func TestMutations_EveryPattern_FindsItsCode(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "../../../tools/sim-mutations.sh", "check").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
