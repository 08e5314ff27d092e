package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// A frozen HAProxy takes connections and answers none. The sidecar must stay
// well beside it, say what is wrong, and bring HAProxy to the present once it
// goes on. The clients wait for their answers and lose none.
func TestAFrozenHAProxyHoldsNothingUpAndIsCorrectedWhenItGoesOn(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	// HAProxy would close a connection that was idle for its keep-alive time when it goes on,
	// before it reads the request that has come meanwhile.
	w.must(w.lb.SetHAProxy("  defaults: {timeouts: {http_keep_alive: 60s}}\n"))
	w.must(w.lb.Start(w.ctx))
	w.nodes = w.startNodes("1.0", "old", 2)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	clients := w.load("--timeout=30s", "--max-in-flight=5000")
	pid := w.workerPID()

	w.must(w.lb.HAProxy.Freeze())
	t.Cleanup(func() { _ = w.lb.HAProxy.Thaw() }) // it may have ended
	fresh := w.startNodes("1.1", "new", 1)
	w.must(lab.Until(w.ctx, 15*time.Second, "the sidecar tells that HAProxy does not answer", func() error {
		if s := w.state(); s.HAProxy.Running {
			return fmt.Errorf("%+v", s.HAProxy)
		}
		if log := w.lb.Sidecar.Tail(50); !strings.Contains(log, "no complete reply within") {
			return errors.New("the log does not say why")
		}
		return nil
	}))
	began := time.Now()
	w.state()
	if took := time.Since(began); took > time.Second {
		t.Errorf("the state took %s beside a frozen HAProxy", took)
	}
	began = time.Now()
	out, code := sidecar(t, nil, "check", "--config", w.lb.Settings())
	if took := time.Since(began); took > 15*time.Second || code != 1 || !strings.Contains(out, "FAIL  haproxy ") {
		t.Errorf("check took %s, exit code %d:\n%s", took, code, out)
	}

	w.must(w.lb.HAProxy.Thaw())
	w.must(w.lb.Routes(w.ctx, 15*time.Second, service, lab.NodeIDs(append(w.nodes, fresh...)...)...))
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}
	w.mustLoseNothing(clients)
}

// Who asks /readyz learns that HAProxy can't be reached. Nodes that leave still
// find the sidecar: its registration in Consul does not hang on it.
func TestTheSidecarOfAFrozenHAProxyIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	registered := "http://" + w.consul.Address() + "/v1/health/service/pointsman-sidecar?passing"

	w.must(w.lb.HAProxy.Freeze())
	t.Cleanup(func() { _ = w.lb.HAProxy.Thaw() }) // it may have ended
	w.must(lab.Until(w.ctx, 20*time.Second, "the sidecar is not ready, and says why", func() error {
		body, code, err := w.getWith(w.lb.StatusURL()+"/readyz", "")
		if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(body, "no complete reply within")) {
			err = fmt.Errorf("%d: %s", code, body)
		}
		return err
	}))
	if _, code, err := w.getWith(w.lb.StatusURL()+"/healthz", ""); err != nil || code != http.StatusOK {
		t.Errorf("healthz: got %d, %v, want 200: the sidecar itself is well", code, err)
	}
	if body, _, err := w.getWith(registered, ""); err != nil || !strings.Contains(body, "pointsman-sidecar-lb0") {
		t.Errorf("in Consul: got %v, %s, want the sidecar passing", err, body)
	}

	w.must(w.lb.HAProxy.Thaw())
	w.must(w.lb.Ready(w.ctx, 5*time.Second))
}
