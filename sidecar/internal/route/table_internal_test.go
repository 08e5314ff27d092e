package route

import (
	"testing"

	"pgregory.net/rapid"
)

// Property: that some keys are not compared changes nothing.
func TestIsSorted_AnyTableBeside_SameAsByEachKey(t *testing.T) {
	key := rapid.StringMatching("[ab]{0,3}")
	rapid.Check(t, func(t *rapid.T) {
		m := Map{}
		for _, k := range rapid.SliceOf(key).Draw(t, "table") {
			m[k] = ""
		}
		like := m.Table()
		have := append([]Entry{}, like...)
		for range rapid.IntRange(0, 3).Draw(t, "changes") { // nearly the same
			i := rapid.IntRange(0, len(have)).Draw(t, "at")
			if i < len(have) && rapid.Bool().Draw(t, "remove") {
				have = append(have[:i], have[i+1:]...)
			} else {
				have = append(have[:i:i], append([]Entry{{Key: key.Draw(t, "key")}}, have[i:]...)...)
			}
		}
		want := true
		for i := 1; i < len(have); i++ {
			want = want && have[i-1].Key < have[i].Key
		}
		if got := isSorted(have, like); got != want {
			t.Fatalf("%v beside %v: got %v, want %v", have, like, got, want)
		}
	})
}
