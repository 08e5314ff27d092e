package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// A document that is invalid is no outage that passes: the API answers 409, as where the
// rollout does not allow the change.
func TestRolloutChanger_Refused_IsTold(t *testing.T) {
	kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	change := rolloutChanger(rollout.Store{KV: kv}, "lb0")
	for _, c := range []struct{ service, document, words string }{
		{"bad", `{"schema": 2}`, "invalid rollout: "},
		{"none", "", "no rollout is recorded"},
	} {
		if c.document != "" {
			if isDone, err := kv.Swap(t.Context(), rollout.Key(c.service), []byte(c.document), 0); err != nil || !isDone {
				t.Fatal(isDone, err)
			}
		}
		if _, isRefused, err := change(t.Context(), c.service, "abort", time.Time{}); !isRefused || err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: refused %v, %v, want %q", c.service, isRefused, err, c.words)
		}
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, isRefused, err := change(stopped, "api", "abort", time.Time{}); isRefused || err == nil {
		t.Errorf("Consul does not answer: refused %v, %v", isRefused, err)
	}
}
