package rollout

import (
	"strings"
	"testing"
	"time"
)

// An option is refused with the error of the change itself, and has its shares.
func TestOptions_EachState_AsTheChangesThemselves(t *testing.T) {
	at := Author{By: "ann", At: time.Unix(1, 0)}
	must := func(d *Document, err error) *Document {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	byHand := must(New("api").Set(at, map[string]int{"1.0": 100, "1.1": 0}, ""))
	running := must(byHand.Start(at, "1.0", "1.1", []int{20, 60, 100}, time.Minute, ""))
	paused, aborted := must(running.Pause(at, "")), must(running.Abort(at, ""))
	ended := must(aborted.End(at))
	for _, c := range []struct {
		name string
		is   *Document
		want string // what is allowed, with the shares
	}{
		{"none", New("api"), ""},
		{"shares by hand", byHand, "promote 1.0 0%, 1.1 100%; abort 1.0 100%, 1.1 0%"},
		{"running", running, "pause 1.0 80%, 1.1 20%; promote 1.0 40%, 1.1 60%; abort 1.0 100%, 1.1 0%; undo 1.0 100%, 1.1 0%"},
		{"paused", paused, "resume 1.0 80%, 1.1 20%; promote 1.0 40%, 1.1 60%; abort 1.0 100%, 1.1 0%; undo 1.0 100%, 1.1 0%"},
		{"aborted", aborted, "undo 1.0 80%, 1.1 20%; end no shares"},
		{"ended", ended, "undo 1.0 100%, 1.1 0%"},
	} {
		before := c.is.SharesText()
		var allowed []string
		options := c.is.Options()
		for i, o := range options {
			if o.Action != Actions[i] || (o.Refused != "") == (o.Shares != nil) {
				t.Errorf("%s: got %+v", c.name, o)
			}
			next, err := c.is.Do(o.Action, at, "")
			if err == nil {
				allowed = append(allowed, o.Action+" "+SharesText(o.Shares))
			}
			if err != nil && o.Refused != err.Error() || err == nil && SharesText(next.Shares) != SharesText(o.Shares) {
				t.Errorf("%s: %+v is offered, and comes to %v, %v", c.name, o, next, err)
			}
		}
		if got := strings.Join(allowed, "; "); got != c.want || len(options) != len(Actions) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if c.is.SharesText() != before {
			t.Errorf("%s: the document has changed", c.name)
		}
	}
	if _, err := running.Do("set", at, ""); err == nil {
		t.Error("set takes more than its name")
	}
}
