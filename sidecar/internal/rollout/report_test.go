package rollout

import (
	"context"
	"strings"
	"testing"
	"time"
)

// What the leader finds is there for all to read, while it is of the current step; and it
// is written when it is new only.
func TestMover_Leads_ItsReportIsOfTheCurrentStep(t *testing.T) {
	s := newMoverScene(t)
	numbers := Numbers{At: ann.At, Next: ann.At.Add(10 * time.Second), Stable: Counted{Requests: 900, ResponseTimeMS: 12.5}, Canary: Counted{Requests: 100, Errors: 3, Retries: 1}}
	s.a.Numbers = func(string) Numbers { return numbers }
	s.verdict = Judgement{Wait, "not enough\nrequests"}
	read := func() *Report {
		t.Helper()
		r, err := s.store.Report(t.Context(), s.document())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := read(); r != nil {
		t.Errorf("before anything leads: %+v", r)
	}
	s.pass(time.Second, s.a, s.b)
	index := func() uint64 {
		e, err := s.store.KV.Get(t.Context(), leaderKey("api"))
		if err != nil || e.Session == "" {
			t.Fatalf("the lock: %+v, %v", e, err)
		}
		return e.Index
	}
	first := index()
	if r := read(); r == nil || r.Leader != "lb-a" || r.Verdict != Wait || r.Reason != "not enough requests" || r.Numbers != numbers {
		t.Errorf("it reports %+v", r)
	}
	s.pass(10*time.Second, s.a, s.b)
	if index() != first {
		t.Error("the same was written again")
	}
	numbers.Canary.Requests++
	s.pass(time.Second, s.a, s.b)
	if r := read(); r == nil || r.Numbers != numbers || index() == first {
		t.Errorf("of the next look it reports %+v", r)
	}

	s.verdict = Judgement{Fail, "worse"}
	s.pass(time.Second, s.a)
	if d, r := s.document(), read(); d.State != Aborted || r == nil || r.Verdict != Fail || r.Reason != "worse" {
		t.Errorf("of the step that failed it reports %+v, %s", r, d.State)
	}
	s.change(func(d *Document) (*Document, error) {
		return d.Start(Author{"ann@ops", s.now.Add(time.Hour)}, "1.0", "1.1", []int{5, 100}, time.Minute, "")
	})
	if r := read(); r != nil {
		t.Errorf("of the next rollout there is %+v", r)
	}
}

// Who may write the key may write anything: it is no report, and nothing else happens.
func TestReport_Hostile_IsNone(t *testing.T) {
	for name, value := range map[string]string{
		"none":                `lb0`,
		"null":                `null`,
		"too large":           `{"leader":"lb0","more":"` + strings.Repeat("x", maxReport) + `"}`,
		"a long leader":       `{"leader":"` + strings.Repeat("x", 301) + `"}`,
		"control characters":  `{"leader":"lb0","reason":"a\u001b[2Jb"}`,
		"another verdict":     `{"leader":"lb0","verdict":"good"}`,
		"a negative time":     `{"leader":"lb0","numbers":{"canary":{"response_time_ms":-1}}}`,
		"a negative count":    `{"leader":"lb0","numbers":{"canary":{"requests":-1}}}`,
		"of another step":     `{"leader":"lb0","step_at":"2020-01-01T00:00:00Z"}`,
		"a wrong type":        `{"leader":7}`,
		"a time that is none": `{"leader":"lb0","step_at":"soon"}`,
	} {
		s := newMoverScene(t)
		if !strings.Contains(value, "step_at") { // else it would be none for that
			value = strings.Replace(value, "{", `{"step_at":"`+s.document().StepAt.Format(time.RFC3339Nano)+`",`, 1)
		}
		if _, err := s.store.KV.Swap(t.Context(), leaderKey("api"), []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		if r, err := s.store.Report(context.Background(), s.document()); r != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
