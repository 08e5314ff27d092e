//go:build linux

package main_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
)

// sidecar is one that is registered in Consul, under a service of its own, and
// says of every instance whether it is drained.
type sidecar struct {
	service string
	asked   chan struct{} // closed with the first question
	drained atomic.Bool

	authorization atomic.Value // that the last question had
}

func startSidecar(t *testing.T, c consul) *sidecar {
	t.Helper()
	s := &sidecar{asked: make(chan struct{})}
	var first atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service, instance, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/drain/"), "/")
		s.authorization.Store(r.Header.Get("Authorization"))
		if first.CompareAndSwap(false, true) {
			close(s.asked)
		}
		wait, err := time.ParseDuration(r.FormValue("wait"))
		if err != nil {
			t.Errorf("asked %s: %v", r.URL, err)
		}
		for over := time.Now().Add(wait); !s.drained.Load() && time.Now().Before(over); {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
		left := 1
		if s.drained.Load() {
			left = 0
		}
		_, _ = fmt.Fprintf(w, `{"load_balancer":"lb0","service":%q,"instance":%q,"drained":%t,"sessions":%d}`, service, instance, left == 0, left)
	}))
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	s.service = "sidecars-" + port
	said := contract.Sidecar{Balancer: "lb0", Unlisted: true}
	if err := c.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: s.service, Name: s.service, Address: host, Port: n, Meta: said.Format()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Client.Agent().ServiceDeregister(s.service) })
	c.registered(t, s.service, s.service)
	return s
}

// leaving starts a program, and tells it to stop once it is registered.
func (s *sidecar) leaving(t *testing.T, c consul, flags ...string) *process {
	t.Helper()
	port := freePort(t)
	id := "leaves/" + strconv.Itoa(port)
	flags = append([]string{"--id", id, "--sidecars", s.service, "--leave-wait", "1m", "--leave-timeout", "2m"}, flags...)
	p := start(t, c.env(), wrap(port, flags, "--code", "6")...)
	c.registered(t, "api", id)
	p.Signal(syscall.SIGTERM)
	select {
	case <-s.asked:
	case <-time.After(deadline):
		t.Fatal("the sidecar was not asked")
	}
	return p
}

func TestStop_LoadBalancerDrained_ProgramGetsSignal(t *testing.T) {
	c := sharedConsul(t)
	s := startSidecar(t, c)
	p := s.leaving(t, c)
	if strings.Contains(p.Stdout.String(), "got ") {
		t.Error("the program heard of its end while a session was on it")
	}
	began := time.Now()
	s.drained.Store(true)
	p.got("SIGTERM")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it heard of it %v after the last session was gone, want at once", took)
	}
	if got := p.wait(); got != 6 {
		t.Errorf("exit code %d, want the program's 6", got)
	}
	p.logs("drained on load balancer: ")
	p.logs(`drained=1 not_routed=0 waited=0 cut=0`)
}

func TestSecondSignalEndsWhatIsAsked(t *testing.T) {
	c := sharedConsul(t)
	p := startSidecar(t, c).leaving(t, c)
	pid := p.saidPID("pid")
	began := time.Now()
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 128+15 {
		t.Errorf("exit code %d, want 143", got)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v, want at once", took)
	}
	if !gone(t, pid) {
		t.Error("the program runs on")
	}
}

func TestProgramThatEndsByItselfEndsWhatIsAsked(t *testing.T) {
	c := sharedConsul(t)
	p := startSidecar(t, c).leaving(t, c)
	began := time.Now()
	if err := syscall.Kill(p.saidPID("pid"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := p.wait(); got != 137 {
		t.Errorf("exit code %d, want 137", got)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v, want at once", took)
	}
	if strings.Contains(p.Stderr.String(), "graceful shutdown incomplete") {
		t.Error("the log calls it an error that no session was waited for")
	}
}

func TestLeaveTimeoutEndsWhatIsAsked(t *testing.T) {
	c := sharedConsul(t)
	p := startSidecar(t, c).leaving(t, c, "--leave-wait", "1s", "--leave-timeout", "2s")
	if got := p.wait(); got != 6 {
		t.Errorf("exit code %d, want the program's 6", got)
	}
	p.logs("graceful shutdown incomplete")
	p.logs("not drained on lb0 (")
}

// Any tenant who may register a service as a sidecar was sent the token of every node
// that left (issue 14, section 4).
func TestSidecarToken_AddressFromConsulWithoutTLS_NotSent(t *testing.T) {
	c := sharedConsul(t)
	s := startSidecar(t, c)
	s.drained.Store(true)
	file := t.TempDir() + "/token"
	if err := os.WriteFile(file, []byte("open-sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.leaving(t, c, "--sidecar-token-file", file)
	if got := p.wait(); got != 6 {
		t.Errorf("exit code %d, want the program's, 6", got)
	}
	if got, _ := s.authorization.Load().(string); got != "" {
		t.Errorf("the registered address was sent %q, want no token", got)
	}
}
