package cli

import (
	"errors"
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
	}{
		{"none", nil, deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, ""},
		{"prepared already", set(map[string]int{"1.0": 100, "1.1": 0}), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, ""},
		{"its own", walking("1.1"), deploy.Walking, map[string]int{"1.0": 95, "1.1": 5}, ""},
		{"its own, paused", did(walking("1.1").Pause(ann, "")), deploy.RolloutPaused, map[string]int{"1.0": 95, "1.1": 5}, ""},
		{"its own, promoted", full, deploy.Promoted, map[string]int{"1.0": 0, "1.1": 100}, ""},
		{"its own, aborted", did(walking("1.1").Abort(ann, "")), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, ""},
		{"ended", did(full.End(ann)), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0}, ""},
		{"another's", walking("1.0.5"), "", nil, "a rollout of 1.0.5 is running, by ann@ops1 at "},
		{"another's, aborted: it stays without traffic", did(walking("1.0.5").Abort(ann, "")), deploy.Prepared, map[string]int{"1.0": 100, "1.1": 0, "1.0.5": 0}, ""},
		{"the one before, promoted", before, deploy.Prepared, map[string]int{"0.9": 0, "1.0": 100, "1.1": 0}, ""},
		{"a share by hand", set(map[string]int{"1.0": 80, "1.1": 20}), "", nil, "1.1 has a share of 20% by ann@ops1"},
		{"other steps", did(set(map[string]int{"1.0": 100, "1.1": 0}).Start(ann, "1.0", "1.1", []int{10, 100}, time.Minute, "")), "", nil, "give --canary 10,100 to go on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			r := &canaryRollout{store: rollout.Store{KV: kv}, service: "api", version: "1.1", by: "bob@ops2", options: canaryOptions{steps: []int{5, 50, 100}, interval: time.Minute}}
			if c.is != nil {
				if _, err := r.store.Change(t.Context(), "api", false, func(*document) (*document, error) { return c.is, nil }); err != nil {
					t.Fatal(err)
				}
			}
			got, err := r.Prepare(t.Context(), "1.0")
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
			if _, err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "changed meanwhile by bob@ops2") {
				t.Errorf("started twice: %v", err)
			}
		})
	}
}

func TestCanaryRollout_UnusableVersion_IsAUsageError(t *testing.T) {
	r := &canaryRollout{service: "api", version: "1.1"}
	if _, err := r.Prepare(t.Context(), ""); !errors.Is(err, deploy.ErrUsage) || !strings.Contains(err.Error(), "no version") {
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
