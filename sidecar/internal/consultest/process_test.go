package consultest_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

func TestProcessForgetsAllWhenItRestarts(t *testing.T) {
	p := consultest.StartProcess(t)
	a := newAgent(t, p.Address())
	a.name = "web"
	a.register(nil)
	a.await("one instance", one)
	p.Restart()
	a.await("none", none)
}

func TestProcessIsGoneWhenItHasStopped(t *testing.T) {
	for name, end := range map[string]func(*consultest.Process){"SIGTERM": (*consultest.Process).Stop, "SIGKILL": (*consultest.Process).Kill} {
		t.Run(name, func(t *testing.T) {
			p := consultest.StartProcess(t)
			end(p)
			var dialer net.Dialer
			if c, err := dialer.DialContext(t.Context(), "tcp", p.Address()); err == nil {
				_ = c.Close()
				t.Error("something listens after the end")
			}
		})
	}
}

func TestPausedProcessAnswersNothingUntilResumed(t *testing.T) {
	p := consultest.StartProcess(t)
	p.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := api.NewClient(&api.Config{Address: p.Address(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	options := (&api.QueryOptions{}).WithContext(ctx)
	if got, _, err := c.Catalog().Services(options); err == nil {
		t.Errorf("a paused Consul answered %v", got)
	}
	p.Resume()
	if _, _, err := c.Catalog().Services(nil); err != nil {
		t.Errorf("after Resume: %v", err)
	}
}
