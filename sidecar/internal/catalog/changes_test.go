package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Several readers that look whenever they like see each change, and nothing twice.
func TestChanges_ReadersNowAndThen_SeeEachChangeOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var c Changes
	type reader struct {
		seen uint64
		due  map[string]bool
	}
	readers := []*reader{{due: map[string]bool{}}, {due: map[string]bool{}}, {due: map[string]bool{}}}
	for range 20_000 {
		backend := fmt.Sprint(rng.IntN(20))
		switch rng.IntN(8) {
		case 0:
			c.Forget(backend)
			for _, r := range readers {
				delete(r.due, backend)
			}
		case 1, 2:
			r := readers[rng.IntN(len(readers))]
			var got, want []string
			r.seen = c.Since(r.seen, func(b string) { got = append(got, b) })
			for b := range r.due {
				want = append(want, b)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("got %q, want %q", got, want)
			}
			clear(r.due)
		default:
			c.Note(backend)
			for _, r := range readers {
				r.due[backend] = true
			}
		}
		if len(c.log) > 2*20 {
			t.Fatalf("%d changes of 20 backends are kept", len(c.log))
		}
	}
	var all []string
	c.Since(0, func(b string) { all = append(all, b) })
	if len(all) != len(c.of) || len(all) == 0 {
		t.Errorf("from 0 on: %q, want all of %v", all, c.of)
	}
}
