package main_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

// consul is a real Consul.
type consul struct {
	*lab.Consul
	t *testing.T
}

func startConsul(t *testing.T) *consul {
	t.Helper()
	c := &consul{proctest.PrepareConsul(t), t}
	c.start()
	return c
}

// start starts it with no memory, at the same address as before.
func (c *consul) start() {
	c.t.Helper()
	if err := c.Restart(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// register makes a server an instance of lb, with a check that says what the
// test says. It passes.
func (c *consul) register(id string, server *httptest.Server) {
	c.t.Helper()
	addr, ok := server.Listener.Addr().(*net.TCPAddr)
	if !ok {
		c.t.Fatalf("%s: not a TCP address", server.Listener.Addr())
	}
	err := c.Client.Agent().ServiceRegister(&consulapi.AgentServiceRegistration{
		ID: id, Name: "lb", Address: "127.0.0.1", Port: addr.Port,
		Check: &consulapi.AgentServiceCheck{CheckID: id, TTL: "1h", Status: consulapi.HealthPassing},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *consul) say(id, status string) {
	c.t.Helper()
	if err := c.Client.Agent().UpdateTTL(id, "", status); err != nil {
		c.t.Fatal(err)
	}
}

// counted is an API node that counts its requests.
func counted(t *testing.T) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	n := new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	return server, n
}

// risen waits until a count has risen by n.
func risen(t *testing.T, what string, n *atomic.Int64, by int64) {
	t.Helper()
	from := n.Load()
	eventually(t, what, func() bool { return n.Load() >= from+by })
}

func TestDiscoveredTargetsComeAndLeaveWithTheirChecks(t *testing.T) {
	consul := startConsul(t)
	one, onOne := counted(t)
	two, onTwo := counted(t)
	consul.register("lb0", one)
	c := start(t, []string{"CONSUL_HTTP_ADDR=" + consul.Address()}, "--discover", "lb", "--rate", "200", "--json", "--progress", "none")
	risen(t, "requests to lb0", onOne, 10)

	consul.register("lb1", two)
	risen(t, "requests to lb1, that came", onTwo, 10)

	consul.say("lb1", consulapi.HealthCritical)
	eventually(t, "lb1 leaving", func() bool { return strings.Contains(c.Stderr.String(), "target removed") })
	risen(t, "requests to lb0, alone", onOne, 5)
	rest := onTwo.Load()
	risen(t, "requests to lb0, alone", onOne, 50)
	if got := onTwo.Load(); got != rest {
		t.Errorf("lb1 got %d requests after it had left", got-rest)
	}

	consul.say("lb1", consulapi.HealthPassing)
	risen(t, "requests to lb1, that is back", onTwo, 10)

	c.Signal(syscall.SIGTERM)
	if got := c.Wait(); got != 0 {
		t.Errorf("exit code: got %d, want 0; stderr:\n%s", got, c.Stderr.String())
	}
	if r := parse(t, c.Stdout.String()); r.Failed != 0 || int64(r.Requests) != onOne.Load()+onTwo.Load() {
		t.Errorf("report: got %d requests, %d failed, want none failed of %d", r.Requests, r.Failed, onOne.Load()+onTwo.Load())
	}
	if came, left := strings.Count(c.Stderr.String(), `"target added"`), strings.Count(c.Stderr.String(), `"target removed"`); came != 3 || left != 1 {
		t.Errorf("log: %d came and %d left, want 3 and 1:\n%s", came, left, c.Stderr.String())
	}
}

// Its index begins again, and a query with the old one would be held for its
// whole wait.
func TestAConsulRestartedWithoutMemoryIsHeardAtOnce(t *testing.T) {
	consul := startConsul(t)
	one, onOne := counted(t)
	two, onTwo := counted(t)
	consul.register("lb0", one)
	for range 20 { // a high index
		consul.say("lb0", consulapi.HealthCritical)
		consul.say("lb0", consulapi.HealthPassing)
	}
	c := start(t, nil, "--discover", "lb", "--consul", consul.Address(), "--rate", "100", "--json", "--progress", "none")
	risen(t, "requests to lb0", onOne, 10)
	if err := consul.Kill(); err != nil {
		t.Fatal(err)
	}
	risen(t, "requests to lb0, without Consul", onOne, 50)
	consul.start()
	risen(t, "requests to lb0, though it is not registered", onOne, 50)
	consul.register("lb1", two)
	risen(t, "requests to lb1", onTwo, 10) // within 10 s; a wait has 30

	c.Signal(syscall.SIGTERM)
	if got := c.Wait(); got != 0 {
		t.Errorf("exit code: got %d, want 0; stderr:\n%s", got, c.Stderr.String())
	}
}

func TestNoTargetWithinTheWaitExitsTwo(t *testing.T) {
	consul := startConsul(t)
	server, requests := counted(t)
	consul.register("lb0", server)
	consul.say("lb0", consulapi.HealthCritical)
	c := start(t, nil, "--discover", "lb", "--consul", consul.Address(), "--discover-wait", "300ms")
	if got := c.Wait(); got != 2 {
		t.Errorf("exit code: got %d, want 2", got)
	}
	for _, want := range []string{"--discover (CLIENT_DISCOVER)", `no instance of "lb" passes its checks`, "waited for 300ms"} {
		if !strings.Contains(c.Stderr.String(), want) {
			t.Errorf("stderr: got %q, want %q in it", c.Stderr.String(), want)
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("requests: got %d, want none", n)
	}
}

func TestASignalEndsTheWaitForATarget(t *testing.T) {
	c := start(t, nil, "--discover", "lb", "--consul", "127.0.0.1:1")
	eventually(t, "the wait", func() bool { return strings.Contains(c.Stderr.String(), "Consul query failed") })
	c.Signal(syscall.SIGTERM)
	if got := c.Wait(); got != 1 || !strings.Contains(c.Stderr.String(), "no request was made: got SIGTERM") {
		t.Errorf("exit code %d, stderr:\n%s\nwant 1, and that no request was made", got, c.Stderr.String())
	}
}

func TestDiscoverAndTargetExcludeEachOther(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--discover", "lb", "--target", "http://lb0/"}, `--discover (CLIENT_DISCOVER): "lb": cannot be used together with --target`},
		{[]string{"--target", "http://lb0/", "--path", "/slow"}, `--path (CLIENT_PATH): "/slow": requires --discover`},
		{[]string{"--discover", "lb", "--path", "slow"}, `--path (CLIENT_PATH): "slow"`},
		{[]string{"--discover", "lb", "--discover-wait", "0s"}, `--discover-wait (CLIENT_DISCOVER_WAIT): 0s`},
	} {
		p := start(t, nil, c.args...)
		if got := p.Wait(); got != 2 || !strings.Contains(p.Stderr.String(), c.want) {
			t.Errorf("%v: exit code %d, stderr %q, want 2 and %q", c.args, got, p.Stderr.String(), c.want)
		}
	}
}
