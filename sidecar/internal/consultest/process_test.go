package consultest_test

import (
	"net"
	"testing"

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
	p := consultest.StartProcess(t)
	p.Kill()
	var dialer net.Dialer
	if c, err := dialer.DialContext(t.Context(), "tcp", p.Address()); err == nil {
		_ = c.Close()
		t.Error("something listens after the end")
	}
}
