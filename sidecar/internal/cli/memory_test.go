package cli

import (
	"testing"
	"time"
)

func TestSpareMemory_MuchToSpare_IsGivenBackOnceInAWhile(t *testing.T) {
	var spare uint64
	given := 0
	m := spareMemory{spare: func() uint64 { return spare }, free: func() { given++ }}
	now := time.Now()
	for _, step := range []struct {
		name  string
		after time.Duration
		spare uint64
		given bool
	}{
		{"little", 0, spareMin - 1, false},
		{"much", 0, spareMin, true},
		{"much again, too soon", spareEvery - 1, spareMin, false},
		{"much again", 1, spareMin, true},
		{"little, a while later", spareEvery, spareMin - 1, false},
	} {
		now = now.Add(step.after)
		was := given
		spare = step.spare
		m.giveBack(now)
		if isGiven := given > was; isGiven != step.given {
			t.Errorf("%s: given back %v, want %v", step.name, isGiven, step.given)
		}
	}
}

// The runtime has what is asked of it, and a heap of this test's size has little to
// spare.
func TestSpareMemory_OfThisProcess_IsRead(t *testing.T) {
	if got := spareBytes(); got > 1<<40 {
		t.Errorf("%d bytes to spare", got)
	}
	newSpareMemory().giveBack(time.Now())
}
