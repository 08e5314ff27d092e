package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// What a deployment of 1.1 beside 1.0 makes of the document that it finds.
func TestCanaryRollout_Prepare_TakesUpOrBeginsOrSaysWhyNot(t *testing.T) {
	ann := rollout.Author{By: "ann@ops1", At: time.Now()}
	type document = rollout.Document
	did := func(d *document, err error) *document {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	tooMany := map[string]int{"1.0": 100}
	for i := range rollout.MaxVersions - 1 {
		tooMany[fmt.Sprint("0.", i)] = 0
	}
	none := func() *document { return rollout.New("api") }
	set := func(shares map[string]int) *document { return did(none().Set(ann, shares, "1.0")) }
	walking := func(canary string) *document {
		return did(set(map[string]int{"1.0": 100, canary: 0}).Start(ann, "1.0", canary, []int{5, 50, 100}, time.Minute, ""))
	}
	full := did(walking("1.1").Promote(ann, true))
	before := did(did(rollout.New("api").Start(ann, "0.9", "1.0", []int{100}, time.Minute, "")).Abort(ann, ""))
	before.State, before.Shares = rollout.Promoted, map[string]int{"0.9": 0, "1.0": 100}
	for _, c := range []struct {
		name   string
		is     *document
		want   deploy.RolloutState
		shares map[string]int
		words  string // of the error
		again  bool
	}{
		{name: "its own, promoted, to begin again", is: full, want: deploy.Prepared, shares: map[string]int{"1.0": 100, "1.1": 0}, again: true},
		{name: "its own, to begin again, but under way", is: walking("1.1"), want: deploy.Walking, shares: map[string]int{"1.0": 95, "1.1": 5}, again: true},
		{"none", nil, deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, "", false},
		{"prepared already", set(map[string]int{"1.0": 100, "1.1": 0}), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, "", false},
		{"its own", walking("1.1"), deploy.Walking, map[string]int{"1.0": 95, "1.1": 5}, "", false},
		{"its own, paused", did(walking("1.1").Pause(ann, "")), deploy.RolloutPaused, map[string]int{"1.0": 95, "1.1": 5}, "", false},
		{"its own, promoted", full, deploy.Promoted, map[string]int{"1.0": 0, "1.1": 100}, "", false},
		{"its own, aborted", did(walking("1.1").Abort(ann, "")), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, "", false},
		{"ended", did(full.End(ann)), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, "", false},
		{"another's", walking("1.0.5"), "", nil, "a rollout of 1.0.5 is running, by ann@ops1 at ", false},
		{"another's, aborted: it stays without traffic", did(walking("1.0.5").Abort(ann, "")), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0, "1.0.5": 0}, "", false},
		{"the one before, promoted", before, deploy.Prepared, map[string]int{"0.9": 0, "1.0": 100, "1.1": 0}, "", false},
		{"a share by hand", set(map[string]int{"1.0": 80, "1.1": 20}), "", nil, "1.1 has a share of 20% by ann@ops1", false},
		{"other steps", did(none().Start(ann, "1.0", "1.1", []int{10, 100}, time.Minute, "")), "", nil, "it is running with the steps 10,100: give --canary 10,100 to continue, or abort it first", false},
		{"another interval", did(none().Start(ann, "1.0", "1.1", []int{5, 50, 100}, time.Hour, "")), "", nil, "it is running with the interval 1h0m0s: give --interval 1h0m0s to continue", false},
		{
			"without the comparison, and more", did(none().Start(ann, "1.0", "1.1", []int{5, 100}, time.Hour, rollout.AnalysisOff)), "", nil,
			"it is running with the steps 5,100, the interval 1h0m0s, analysis=false: give --canary 5,100 --interval 1h0m0s --analysis=false to continue", false,
		},
		{"too many versions", set(tooMany), "", nil, "17 versions would have a share, want at most 16: `pointsman rollout end api` forgets them, after `pointsman rollout abort`", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			r := &canaryRollout{store: rollout.Store{KV: kv}, service: "api", version: "1.1", by: "bob@ops2", options: canaryOptions{steps: []int{5, 50, 100}, interval: time.Minute, isCompared: true}}
			if c.is != nil {
				if _, err := r.store.Change(t.Context(), "api", false, func(*document) (*document, error) { return c.is, nil }); err != nil {
					t.Fatal(err)
				}
			}
			got, err := r.Prepare(t.Context(), "1.0", c.again)
			if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
				t.Fatalf("got %+v, %v, want an error with %q", got, err, c.words)
			}
			if err != nil {
				return
			}
			d, _, err := r.store.Read(t.Context(), "api")
			if err != nil || got.State != c.want || !maps.Equal(d.Shares, c.shares) || d.Canary != "1.1" || d.Stable != "1.0" {
				t.Errorf("got %+v, %v; the document %+v", got, err, d)
			}
			if got.State != deploy.Prepared {
				return
			}
			if got, err = r.Start(t.Context()); err != nil || got.State != deploy.Walking || got.Share != 5 || got.Next != 50 {
				t.Errorf("started: %+v, %v", got, err)
			}
			// A call whose answer was lost is made again.
			if got, err = r.Start(t.Context()); err != nil || got.State != deploy.Walking || got.Share != 5 {
				t.Errorf("started twice: %+v, %v", got, err)
			}
		})
	}
}

// What was changed by others stays as they have it, and the deployment sees that.
func TestCanaryRollout_ChangedByOthers_StaysAndIsSeen(t *testing.T) {
	ann := rollout.Author{By: "ann@ops1", At: time.Now()}
	type document = rollout.Document
	abort := func(d *document) (*document, error) { return d.Abort(ann, "") }
	promote := func(d *document) (*document, error) { return d.Promote(ann, true) }
	undo := func(d *document) (*document, error) { return d.Undo(ann) }
	other := func(d *document) (*document, error) { return d.Set(ann, map[string]int{"1.0": 100, "1.2": 0}, "") }
	for _, c := range []struct {
		name                string
		isStarted           bool
		change              func(*document) (*document, error)
		now, started, ended deploy.RolloutState // what Start and Abort give
		words               string              // of End
	}{
		{"aborted before its start", false, abort, deploy.RolloutAborted, deploy.RolloutAborted, deploy.RolloutAborted, "it was aborted by ann@ops1 at "},
		{"another one before its start", false, other, deploy.RolloutReplaced, deploy.RolloutReplaced, deploy.RolloutReplaced, ""},
		{"promoted", true, promote, deploy.Promoted, deploy.Promoted, deploy.Promoted, ""},
		{"walking", true, nil, deploy.Walking, deploy.Walking, deploy.RolloutAborted, "it was aborted by bob@ops2 at "},
		{"undone at the first step", true, undo, deploy.Prepared, deploy.Walking, deploy.RolloutAborted, "it was aborted by bob@ops2 at "},
	} {
		t.Run(c.name, func(t *testing.T) {
			kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			r := &canaryRollout{store: rollout.Store{KV: kv}, service: "api", version: "1.1", by: "bob@ops2", options: canaryOptions{steps: []int{5, 50, 100}, interval: time.Minute}}
			must := func(what string, want deploy.RolloutState, call func() (deploy.Rollout, error)) {
				t.Helper()
				if got, err := call(); err != nil || got.State != want {
					t.Errorf("%s: got %+v, %v, want %s", what, got, err, want)
				}
			}
			must("prepare", deploy.Prepared, func() (deploy.Rollout, error) { return r.Prepare(t.Context(), "1.0", false) })
			if c.isStarted {
				must("start", deploy.Walking, func() (deploy.Rollout, error) { return r.Start(t.Context()) })
			}
			if c.change != nil {
				if _, err := r.store.Change(t.Context(), "api", false, c.change); err != nil {
					t.Fatal(err)
				}
			}
			must("now", c.now, func() (deploy.Rollout, error) { return r.Now(t.Context()) })
			must("start", c.started, func() (deploy.Rollout, error) { return r.Start(t.Context()) })
			must("abort", c.ended, func() (deploy.Rollout, error) { return r.Abort(t.Context(), "it is worse") })
			must("abort twice", c.ended, func() (deploy.Rollout, error) { return r.Abort(t.Context(), "it is worse") })
			err = r.End(t.Context())
			if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
				t.Errorf("end: %v, want %q", err, c.words)
			}
		})
	}
}

// Only what may go away is tried again.
func TestCanaryRollout_Errors_TellWhatToTryAgain(t *testing.T) {
	for _, c := range []struct {
		name         string
		fault        consultest.Fault
		value        string // of the key
		isUnanswered bool
		words        string
	}{
		{"no leader", consultest.NoLeader(), "", true, "No cluster leader"},
		{"connection closed", consultest.Close(), "", true, "EOF"},
		{"denied", consultest.Denied(), "", false, "the Consul token needs key:write for pointsman/rollouts/"},
		{"invalid", consultest.Fault{}, "{}", false, "invalid rollout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := consultest.NewFake(t)
			kv, err := consul.NewKV(consul.Options{Address: fake.Address()})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			if c.value != "" {
				if isDone, err := kv.Swap(t.Context(), rollout.Key("api"), []byte(c.value), 0); err != nil || !isDone {
					t.Fatal(isDone, err)
				}
			}
			fake.Break(c.fault)
			r := &canaryRollout{store: rollout.Store{KV: kv}, service: "api", version: "1.1", options: canaryOptions{steps: []int{100}, interval: time.Minute}}
			_, errPrepare := r.Prepare(t.Context(), "1.0", false)
			_, errNow := r.Now(t.Context())
			for _, err := range []error{errPrepare, errNow} {
				_, is := errors.AsType[*deploy.UnansweredError](err)
				if err == nil || is != c.isUnanswered || !strings.Contains(err.Error(), c.words) {
					t.Errorf("got %v, to be tried again: %t; want %t and %q", err, is, c.isUnanswered, c.words)
				}
			}
		})
	}
}

// What the leader has counted is a text for people.
func TestCanaryRollout_Now_HasTheNumbersOfTheStep(t *testing.T) {
	kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	r := &canaryRollout{store: rollout.Store{KV: kv}, service: "api", version: "1.1", by: "bob@ops2", options: canaryOptions{steps: []int{5, 50, 100}, interval: time.Minute}}
	if _, err := r.Prepare(t.Context(), "1.0", false); err != nil {
		t.Fatal(err)
	}
	is, err := r.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	numbers := rollout.Numbers{At: is.StepAt, Stable: rollout.Counted{Requests: 900, ResponseTimeMS: 12.5}, Canary: rollout.Counted{Requests: 100, Errors: 3, Retries: 1}}
	report, err := json.Marshal(rollout.Report{Leader: "lb0", StepAt: is.StepAt, Verdict: rollout.Wait, Reason: "not enough requests", Numbers: numbers})
	if err != nil {
		t.Fatal(err)
	}
	if isDone, err := kv.Swap(t.Context(), "pointsman/rollout-leaders/api", report, 0); err != nil || !isDone {
		t.Fatal(isDone, err)
	}
	want := "1.1: 100 requests, 3 errors (3.00 %), 1 retries; 1.0: 900 requests, 0 errors (0.00 %), 0 retries, 12.5 ms on average; waits: not enough requests"
	if got, err := r.Now(t.Context()); err != nil || got.Numbers != want {
		t.Errorf("got %q, %v, want %q", got.Numbers, err, want)
	}
}

func TestCanaryRollout_UnusableVersion_IsAUsageError(t *testing.T) {
	r := &canaryRollout{service: "api", version: "1.1"}
	if _, err := r.Prepare(t.Context(), "", false); !errors.Is(err, deploy.ErrUsage) || !strings.Contains(err.Error(), "no version") {
		t.Errorf("got %v", err)
	}
}

// A plain deployment that a rollout is in the way of is refused before it begins.
func TestDeploy_RolloutInTheWay_RefusedUpFront(t *testing.T) {
	ann := rollout.Author{By: "ann@ops1", At: time.Now()}
	s := newDeployScene(t, api.Access{})
	kv, err := consul.NewKV(consul.Options{Address: s.consul.Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	store := rollout.Store{KV: kv}
	change := func(do func(*rollout.Document) (*rollout.Document, error)) {
		t.Helper()
		if _, err := store.Change(t.Context(), "api", false, do); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(words string) {
		t.Helper()
		code, _, said := s.run(nil, "--start", "echo it has started", "--stop", "true", "--count", "1")
		if code != ExitFailure || !strings.Contains(said, words) || strings.Contains(said, "it has started") {
			t.Errorf("got %d, %s; want 1 and %q", code, said, words)
		}
	}
	change(func(d *rollout.Document) (*rollout.Document, error) {
		return d.Set(ann, map[string]int{"1.0": 100, "1.1": 0}, "")
	})
	refused("its rollout gives 1.1 no share of the traffic (paused: 1.0 100%, 1.1 0%, by ann@ops1 at ")
	refused("`pointsman rollout end api` first, after `pointsman rollout abort`")
	change(func(d *rollout.Document) (*rollout.Document, error) {
		return d.Start(ann, "1.0", "1.1", []int{5, 100}, time.Minute, "")
	})
	refused("a rollout of 1.1 is running, by ann@ops1 at ")
	change(func(d *rollout.Document) (*rollout.Document, error) { return d.Abort(ann, "") })
	refused("its rollout gives 1.1 no share of the traffic (aborted")
}

// One change gives the new version all traffic, `rollout undo` takes it back by one, and a
// call whose answer was lost changes nothing twice.
func TestCanaryRollout_BlueGreen_SwitchedAndUndone(t *testing.T) {
	kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	r := &canaryRollout{store: rollout.Store{KV: kv}, service: "api", version: "1.1", by: "bob@ops2", options: canaryOptions{blueGreen: true}}
	must := func(what string, state deploy.RolloutState, share, changes int, call func() (deploy.Rollout, error)) {
		t.Helper()
		got, err := call()
		d, _, readErr := r.store.Read(t.Context(), "api")
		if err != nil || readErr != nil || got.State != state || got.Share != share || d.Shares["1.0"] != 100-share || len(d.History) != changes || !got.At.Equal(d.ModifiedAt) {
			t.Errorf("%s: got %+v, %v, want %s, %d%%; the document %+v, %v", what, got, err, state, share, d, readErr)
		}
	}
	prepare := func() (deploy.Rollout, error) { return r.Prepare(t.Context(), "1.0", false) }
	change := func(f func(*rollout.Document) (*rollout.Document, error)) func() (deploy.Rollout, error) {
		return func() (deploy.Rollout, error) { return r.change(t.Context(), f) }
	}
	ann := rollout.Author{By: "ann@ops1", At: time.Now().UTC().Truncate(time.Millisecond)}
	must("prepare", deploy.Prepared, 0, 1, prepare)
	must("again", deploy.Prepared, 0, 1, prepare)
	must("switch", deploy.Promoted, 100, 2, func() (deploy.Rollout, error) { return r.Switch(t.Context()) })
	must("switch again", deploy.Promoted, 100, 2, func() (deploy.Rollout, error) { return r.Switch(t.Context()) })
	must("the next run", deploy.Promoted, 100, 2, prepare)
	must("undo", deploy.Prepared, 0, 3, change(func(d *rollout.Document) (*rollout.Document, error) { return d.Undo(ann) }))
	must("the run after it", deploy.Prepared, 0, 3, prepare)
	must("an operator switches", deploy.Promoted, 100, 4, change(func(d *rollout.Document) (*rollout.Document, error) { return d.Promote(ann, false) }))
	must("abort", deploy.RolloutAborted, 0, 5, change(func(d *rollout.Document) (*rollout.Document, error) { return d.Abort(ann, "") }))
	must("a switch after it", deploy.RolloutAborted, 0, 5, func() (deploy.Rollout, error) { return r.Switch(t.Context()) })
	must("after an abort", deploy.Prepared, 0, 6, prepare)
	if d, _, err := r.store.Read(t.Context(), "api"); err != nil || d.History[0].Action != rollout.Prepared {
		t.Errorf("the deployment's begin is recorded as %+v, %v", d, err)
	} else if n, err := d.Undo(ann); err == nil {
		t.Errorf("an undo in the next preview gives %s", n.SharesText())
	}
	if got, err := r.Prepare(t.Context(), "1.0", false); err != nil || got.Next != 100 {
		t.Errorf("the next share is %d, %v", got.Next, err)
	}
}

func TestDeploy_BlueGreenFlags_ThatContradict(t *testing.T) {
	for args, want := range map[string]string{
		"--keep 5m":                            "--keep: requires --blue-green",
		"--preview 5m":                         "--preview: requires --blue-green",
		"--blue-green --canary 5,100":          "--blue-green: cannot be combined with --canary",
		"--blue-green --batch 2":               "--blue-green: cannot be combined with --batch",
		"--blue-green --redeploy":              "--blue-green: cannot be combined with --redeploy",
		"--blue-green --keep -1s":              "--keep -1s, --preview 0s: must be 0s or more",
		"--blue-green --preview -1s":           "must be 0s or more",
		"--blue-green --keep 0s --interval 1m": "--interval: requires --canary",
	} {
		var errs bytes.Buffer
		code := Run(t.Context(), Env{Args: append([]string{"deploy", "--service", "api", "--version", "1.1", "--start", "true", "--stop", "true"}, strings.Fields(args)...), Stderr: &errs, Stdout: io.Discard})
		if code != ExitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %s, want %q", args, code, errs.String(), want)
		}
	}
}
