package reconcile_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Steps that are sent before HAProxy is read, and those of a decision that the guard had
// made again, come from decisions that are recorded once.
func TestDecided_EachStepSent_IsInOneDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, true)
		var got []string
		b.decided = func(_ plan.Service, o plan.Observed, _ catalog.Service, d *plan.Decision) {
			out := d.Outcome(o)
			for _, s := range out.Steps {
				got = append(got, fmt.Sprintf("%s %s", s.Kind, s.Server))
			}
			for _, w := range out.Waiting {
				if w.For == plan.ForGuard {
					got = append(got, "held "+w.Server)
				}
			}
		}
		b.catalog.says("api", many(2)...)
		b.adoptable()
		b.start()
		b.passes(time.Minute)
		b.catalog.says("api", many(3)...) // added before HAProxy is read
		b.passes(time.Minute)
		if want := []string{"add api-3"}; !slices.Equal(got, want) {
			t.Errorf("decisions have %q, want %q", got, want)
		}
		got = nil
		b.catalog.says("api") // held, and decided again with all addresses
		synctest.Wait()
		b.passes(time.Millisecond)
		if want := []string{"held api-1", "held api-2", "held api-3"}; !slices.Equal(got, want) {
			t.Errorf("decisions have %q, want %q once", got, want)
		}
	})
}
