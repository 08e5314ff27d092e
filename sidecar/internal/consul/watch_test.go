package consul

import (
	"errors"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// TestEndedWatchPublishesNothing: an answer that was on its way when its
// service went must not bring it back.
func TestEndedWatchPublishesNothing(t *testing.T) {
	s, err := New(Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := &watch{service: Service{Name: "web"}, source: s, log: s.log}
	ended.publish(catalog.Service{Name: "web", Known: true}, Addresses{})
	ended.failed(errors.New("boom"))
	if got := s.Snapshot().Service("web"); got.Known {
		t.Errorf("service = %+v, want it unknown", got)
	}
	if got := s.Health("web"); got != (catalog.SourceHealth{}) {
		t.Errorf("health = %+v, want none", got)
	}
	select {
	case <-s.Changed():
		t.Error("an event came")
	default:
	}
}
