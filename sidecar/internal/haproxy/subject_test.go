package haproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// testMark is what every subject runs at first.
var testMark = plan.Marker{Template: "aa", Services: "bb", Settings: "cc"}

// subject is a HAProxy, real or fake, and a Client that talks to it.
type subject struct {
	client          *Client
	runtime, master string
	dynamic         bool
}

// backendSpec is a backend that a subject has from its start.
type backendSpec struct {
	name    string
	static  bool // its balance algorithm takes no servers at runtime
	servers []serverSpec
}

type serverSpec struct {
	name     string
	addr     netip.AddrPort
	weight   int
	maxConn  int
	backup   bool
	disabled bool
	check    bool
	agent    bool // with an agent that does not answer
}

// onEach runs a case on the real HAProxy and on a Fake of each profile.
func onEach(t *testing.T, backends []backendSpec, run func(*testing.T, subject)) {
	t.Helper()
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		p := haproxytest.StartWith(t, marked(testMark), fileOf(backends))
		run(t, newSubject(t, p.Runtime(), p.Master()))
	})
	for _, profile := range []haproxytest.Profile{haproxytest.V26, haproxytest.V30, haproxytest.V34} {
		t.Run("fake "+profile.Version, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, profile, backends)
			run(t, newSubject(t, f.Runtime(), f.Master()))
		})
	}
}

// newSubject is one whose client waits for each count of old sessions, also on a busy machine.
func newSubject(t *testing.T, runtime, master string) subject {
	t.Helper()
	c := newTestClient(t, Options{Runtime: runtime, Master: master})
	c.countWait = time.Minute
	s := subject{client: c, runtime: runtime, master: master}
	s.dynamic = s.observe(t).Caps.Dynamic
	return s
}

func newTestClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func marked(m plan.Marker) haproxytest.Options {
	return haproxytest.Options{Global: "  setenv " + plan.MarkerVariable + " " + m.String()}
}

// fileOf writes the backends as haproxy.cfg. The checks come an hour apart, so
// that only the first one, at the start, takes part in a test.
func fileOf(backends []backendSpec) string {
	var out strings.Builder
	for _, b := range backends {
		balance := "roundrobin"
		if b.static {
			balance = "static-rr"
		}
		fmt.Fprintf(&out, "backend %s\n  balance %s\n", b.name, balance)
		for _, s := range b.servers {
			fmt.Fprintf(&out, "  server %s %s weight %d", s.name, s.addr, s.weight)
			for word, is := range map[string]bool{
				" backup": s.backup, " disabled": s.disabled, " check inter 1h": s.check, fmt.Sprintf(" maxconn %d", s.maxConn): s.maxConn > 0,
				" agent-check agent-port 9 agent-inter 1h": s.agent,
			} {
				if is {
					out.WriteString(word)
				}
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

func newFake(t *testing.T, profile haproxytest.Profile, backends []backendSpec) *haproxytest.Fake {
	t.Helper()
	made := make([]*haproxytest.FakeBackend, 0, len(backends))
	for _, b := range backends {
		backend := &haproxytest.FakeBackend{Name: b.name, Static: b.static}
		for _, s := range b.servers {
			server := &haproxytest.FakeServer{
				Name: s.name, Addr: s.addr, Up: !s.disabled, Weight: s.weight, MaxConn: s.maxConn,
				Backup: s.backup, Check: s.check, Agent: s.agent, Maint: s.disabled, Disabled: s.disabled,
			}
			if s.agent {
				server.AgentPort = 9
			}
			backend.Servers = append(backend.Servers, server)
		}
		made = append(made, backend)
	}
	f := haproxytest.NewFake(t, profile, made...)
	f.Change(func(w *haproxytest.FakeWorker) { w.Marker = testMark.String() })
	return f
}

func (s subject) observe(t *testing.T, backends ...string) plan.Observed {
	t.Helper()
	o, err := s.client.Observe(t.Context(), backends)
	if err != nil {
		t.Fatalf("Observe: %v", err)
	}
	return o
}

// expect polls until the backend's servers are as they should be: since 2.9 an
// address is set some time after it was answered for.
func (s subject) expect(t *testing.T, backend string, want []plan.Server) {
	t.Helper()
	var diff string
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got := s.observe(t, backend).Backends[backend].Servers
		diff = cmp.Diff(got, want, cmpopts.EquateComparable(netip.AddrPort{}),
			cmpopts.IgnoreFields(plan.Server{}, "ID", "SinceChange", "Sessions"), cmpopts.EquateEmpty())
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("servers of %s (-got +want):\n%s", backend, diff)
		}
	}
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// dialResults fails every connection with the error of its address.
func dialResults(errs map[string]error) func(context.Context, endpoint) (net.Conn, error) {
	return func(_ context.Context, e endpoint) (net.Conn, error) { return nil, errs[e.address] }
}
