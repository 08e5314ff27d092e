package route_test

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func TestUnheard_ServicesThatConsulHasNotAnsweredFor(t *testing.T) {
	answered := func(known ...bool) (out []route.Candidate) {
		for i, k := range known {
			out = append(out, route.Candidate{Service: string(rune('a' + i)), Known: k})
		}
		return out
	}
	want := func(when string, u route.Unheard, isEmpty bool, services string) {
		t.Helper()
		got := ""
		for _, s := range "abc" {
			if u.Has(string(s)) {
				got += string(s)
			}
		}
		if got != services || u.IsEmpty() != isEmpty {
			t.Errorf("%s: unheard of %q, empty %t; want %q, %t", when, got, u.IsEmpty(), services, isEmpty)
		}
	}
	var u route.Unheard
	want("at the start", u, false, "abc")
	want("before all are known", u.After(answered(true, true), false), false, "abc")
	u = u.After(answered(true, false), true)
	want("one does not answer", u, false, "b")
	want("one more comes", u.After(answered(true, false, false), true), false, "b")
	want("one that has answered fails", u.After(answered(false, false), true), false, "b")
	want("it is not settled again", u.After(answered(true, false), false), false, "b")
	want("it is gone", u.After(answered(true), true), true, "")
	want("it answers", u.After(answered(true, true), false), true, "")
}
