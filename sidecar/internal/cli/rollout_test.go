package cli

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

func TestRolloutSet_Arguments_AreSharesOrNamed(t *testing.T) {
	for args, want := range map[string]map[string]int{
		"1.0=95 1.1=5":     {"1.0": 95, "1.1": 5},
		"1.0=95% 1.1=5%":   {"1.0": 95, "1.1": 5},
		"a=b=100":          {"a=b": 100},
		"1.0 1.1=5":        nil,
		"1.0=x 1.1=5":      nil,
		"1.0=95 1.0=5":     nil,
		"1.0=95 1.1=4":     nil,
		"1.0=95.5 1.1=4.5": nil,
		"=100":             nil,
		"1.0=-5 1.1=105":   nil,
	} {
		got, err := sharesOf(strings.Fields(args))
		if (err == nil) != (want != nil) || want != nil && !maps.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", args, got, err, want)
		}
	}
}

func TestRolloutStart_StableVersion_NamedOrTheOnlyOther(t *testing.T) {
	for _, c := range []struct{ registered, canary, explicit, before, want, words string }{
		{"1.0 1.1", "1.1", "", "", "1.0", ""},
		{"1.0 1.1", "1.1", "", "0.9", "1.0", ""},
		{"0.9 1.0 1.1", "1.1", "", "", "", "registered are 0.9, 1.0"},
		{"0.9 1.0 1.1", "1.1", "", "1.0", "1.0", ""},
		{"0.9 1.0 1.1", "1.1", "0.9", "1.0", "0.9", ""},
		{"1.0 1.1", "1.1", "0.9", "", "", "--stable 0.9: no instance"},
		{"1.0 1.1", "1.1", "1.1", "", "", "--stable 1.1: no instance"},
		{"1.0", "1.1", "", "", "", "no instance of version 1.1"},
		{"1.1", "1.1", "", "", "", "no instance of another version"},
	} {
		got, err := stableBeside(strings.Fields(c.registered), c.canary, c.explicit, c.before)
		if got != c.want || (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}

// sampleRollout is a rollout in its second step.
func sampleRollout() *rollout.Document {
	return &rollout.Document{
		Schema: rollout.Schema, Service: "api", State: rollout.Running, Shares: map[string]int{"1.0": 75, "1.1": 25}, Stable: "1.0", Canary: "1.1",
		Steps: []int{5, 25, 100}, Interval: rollout.Duration(time.Minute), Step: 1, StepAt: noon, ModifiedBy: "lb0", ModifiedAt: noon,
		History: []rollout.Change{{Action: "step", Shares: map[string]int{"1.0": 75, "1.1": 25}, State: rollout.Running, By: "lb0", At: noon}},
	}
}

// The steps, the numbers of both versions, what it waits for and when the next look is:
// with what stands in a report, which may be anything.
func TestStepLines_EachState_SayWhatIsAndWhatComes(t *testing.T) {
	report := func(v rollout.Verdict, reason string) *rollout.Report {
		return &rollout.Report{Leader: "lb1\x1b[2J", StepAt: noon, Verdict: v, Reason: reason, Numbers: rollout.Numbers{
			At: noon.Add(20 * time.Second), Next: noon.Add(30 * time.Second),
			Stable: rollout.Counted{Requests: 3000, Errors: 3, ResponseTimeMS: 12.5}, Canary: rollout.Counted{Requests: 1000, Errors: 40, Retries: 2},
		}}
	}
	state := func(s rollout.State, reason string) *rollout.Document {
		d := sampleRollout()
		d.State, d.Reason = s, reason
		return d
	}
	const never = -1 // the time does not matter, as in what is printed once
	ended, set, atLast, hostile := sampleRollout(), sampleRollout(), sampleRollout(), state(rollout.Running, "a\nb")
	ended.Shares, ended.State, set.Steps, atLast.Steps = nil, rollout.Promoted, nil, []int{5, 25}
	hostile.Canary, hostile.Stable = "1.1\x1b[2J", "1.0\n"
	for _, c := range []struct {
		name   string
		d      *rollout.Document
		report *rollout.Report
		after  time.Duration
		want   []string
	}{
		{"no report", sampleRollout(), nil, 20 * time.Second, []string{"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s; 100% in 40s, if it is as good"}},
		{"in its interval", sampleRollout(), report(rollout.Wait, "not enough"), 25 * time.Second, []string{
			"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s; 100% in 35s, if it is as good",
			"1.1: 1000 requests, 40 errors (4.00 %), 2 retries",
			"1.0: 3000 requests, 3 errors (0.10 %), 0 retries, 12.5 ms on average",
			"waits: not enough", "moved by lb1·[2J, next look in 5s",
		}},
		{"beyond it", sampleRollout(), report(rollout.Wait, "not enough"), 90 * time.Second, []string{
			"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s; 100% as soon as it is known to be as good, since 30s",
			"1.1: 1000 requests, 40 errors (4.00 %), 2 retries", "1.0: 3000 requests, 3 errors (0.10 %), 0 retries, 12.5 ms on average",
			"waits: not enough", "moved by lb1·[2J, next look in 0s",
		}},
		{"aborted", state(rollout.Aborted, "more errors"), report(rollout.Fail, "more errors"), time.Hour, []string{
			"steps of 1.1: 5%  25%  100%, each for 1m0s", "reason: more errors",
			"1.1: 1000 requests, 40 errors (4.00 %), 2 retries", "1.0: 3000 requests, 3 errors (0.10 %), 0 retries, 12.5 ms on average", "moved by lb1·[2J",
		}},
		{"paused", state(rollout.Paused, ""), nil, 0, []string{"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s"}},
		{"promoted", state(rollout.Promoted, ""), nil, 0, []string{"steps of 1.1: 5% ✓  25% ✓  100% ✓, each for 1m0s"}},
		{"ended", ended, nil, 0, []string{"steps of 1.1: 5%  25%  100%, each for 1m0s"}},
		{"without steps", set, nil, 0, nil},
		{"at the last step, whose share is below 100", atLast, nil, 90 * time.Second, []string{"steps of 1.1: 5% ✓  [25%], each for 1m0s"}},
		{"as good, beyond its interval", sampleRollout(), report(rollout.Pass, "0 errors\nof 1000"), 90 * time.Second, []string{
			"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s; 100% is due",
			"1.1: 1000 requests, 40 errors (4.00 %), 2 retries", "1.0: 3000 requests, 3 errors (0.10 %), 0 retries, 12.5 ms on average",
			"found: 0 errors·of 1000", "moved by lb1·[2J, next look in 0s",
		}},
		{"a leader without numbers yet", sampleRollout(), &rollout.Report{Leader: "lb1", StepAt: noon}, 20 * time.Second, []string{
			"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s; 100% in 40s, if it is as good", "moved by lb1",
		}},
		{"no request yet", sampleRollout(), &rollout.Report{Leader: "lb1", StepAt: noon, Numbers: rollout.Numbers{At: noon}}, 20 * time.Second, []string{
			"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s; 100% in 40s, if it is as good",
			"1.1: 0 requests, 0 errors (0.00 %), 0 retries", "1.0: 0 requests, 0 errors (0.00 %), 0 retries", "moved by lb1",
		}},
		{"names of an attacker", hostile, report(rollout.Wait, ""), 20 * time.Second, []string{
			`steps of "1.1\x1b[2J": 5% ✓  [25%]  100%, each for 1m0s; 100% in 40s, if it is as good`, "reason: a·b",
			`"1.1\x1b[2J": 1000 requests, 40 errors (4.00 %), 2 retries`, `"1.0\n": 3000 requests, 3 errors (0.10 %), 0 retries, 12.5 ms on average`,
			"moved by lb1·[2J, next look in 10s",
		}},
		{"printed once", sampleRollout(), report(rollout.Wait, ""), never, []string{
			"steps of 1.1: 5% ✓  [25%]  100%, each for 1m0s; 100% at 2026-11-29T12:01:00Z, if it is as good",
			"1.1: 1000 requests, 40 errors (4.00 %), 2 retries", "1.0: 3000 requests, 3 errors (0.10 %), 0 retries, 12.5 ms on average", "moved by lb1·[2J",
		}},
	} {
		now := noon.Add(c.after)
		if c.after == never {
			now = time.Time{}
		}
		if got := stepLines(c.d, c.report, now); !slices.Equal(got, c.want) {
			t.Errorf("%s: got\n  %s\nwant\n  %s", c.name, strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
		}
	}
}
