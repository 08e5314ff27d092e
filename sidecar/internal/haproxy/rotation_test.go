package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// rotating is a real HAProxy with a service and the health answer, as the
// template has them.
type rotating struct {
	*haproxytest.Process
	client        *Client
	node          *haproxytest.Node
	front, health string // addresses
}

func startRotating(t *testing.T) rotating {
	t.Helper()
	node := haproxytest.StartNode(t, "node")
	r := rotating{node: node, front: haproxytest.FreeAddr(t).String(), health: haproxytest.FreeAddr(t).String()}
	r.Process = haproxytest.Start(t, fmt.Sprintf(`
frontend api.front
  bind %s
  default_backend api
backend api
  server api-1 %s
backend other
  server other-1 %s
frontend pointsman.health
  bind %s
  no log
  monitor-uri /
  monitor fail if { nbsrv(pointsman.rotation) lt 1 }
backend pointsman.rotation
  server lb 127.0.0.1:9 weight 1
`, r.front, node.Addr(), node.Addr(), r.health))
	r.client = newTestClient(t, Options{Runtime: r.Runtime(), Master: r.Master()})
	return r
}

// healthy asks as Consul's agent does.
func (r rotating) healthy(t *testing.T) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.health+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestMaintenanceTurnsTheHealthAnswerAndNothingElse(t *testing.T) {
	t.Parallel()
	r := startRotating(t)
	for _, on := range []bool{false, true, true, false} {
		if err := r.client.SetMaintenance(t.Context(), on); err != nil {
			t.Fatal(err)
		}
		want := map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusOK}[on]
		if got := r.healthy(t); got != want {
			t.Errorf("health answer with maintenance %v: got %d, want %d", on, got, want)
		}
		if now, _, err := r.client.Maintenance(t.Context()); err != nil || now != on {
			t.Errorf("Maintenance: got %v, %v, want %v", now, err, on)
		}
		conn := r.connect(t)
		conn.request("/")
		if got := conn.answer(); !strings.Contains(got, "200 OK") {
			t.Errorf("a request with maintenance %v: got %q, want 200", on, got)
		}
	}
	if log := r.Log(); strings.Contains(log, "pointsman.health") {
		t.Errorf("HAProxy logs the health answers:\n%s", log)
	}
}

func TestMaintenanceNeedsTheBackend(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, "backend api\n  server api-1 127.0.0.1:9\n")
	c := newTestClient(t, Options{Runtime: p.Runtime()})
	if err := c.SetMaintenance(t.Context(), true); !errors.Is(err, ErrNoRotation) {
		t.Errorf("SetMaintenance: got %v, want ErrNoRotation", err)
	}
	if _, _, err := c.Maintenance(t.Context()); !errors.Is(err, ErrNoRotation) {
		t.Errorf("Maintenance: got %v, want ErrNoRotation", err)
	}
}

func TestMaintenanceThatHAProxyDoesNotShowIsAnError(t *testing.T) {
	t.Parallel()
	f := newFake(t, haproxytest.V34, []backendSpec{{name: plan.RotationBackend, servers: []serverSpec{{name: plan.RotationServer, addr: addr("127.0.0.1:9"), weight: 1}}}})
	c := newTestClient(t, Options{Runtime: f.Runtime()})
	if err := c.SetMaintenance(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	lost := false
	c.dial = func(ctx context.Context, e endpoint) (net.Conn, error) {
		if lost {
			return dialEndpoint(ctx, e)
		}
		lost = true
		near, far := net.Pipe()
		go func() {
			_, _ = far.Read(make([]byte, 1000))
			_, _ = far.Write([]byte("\n")) // taken, as it seems
			_ = far.Close()
		}()
		return near, nil
	}
	if err := c.SetMaintenance(t.Context(), false); err == nil || !strings.Contains(err.Error(), "state unchanged") {
		t.Errorf("got %v, want that HAProxy does not show it", err)
	}
}

func TestMaintenanceNeedsARunningHAProxy(t *testing.T) {
	t.Parallel()
	c := newTestClient(t, Options{Runtime: t.TempDir() + "/none.sock"})
	if err := c.SetMaintenance(t.Context(), true); !errors.Is(err, plan.ErrNotRunning) {
		t.Errorf("SetMaintenance: got %v, want plan.ErrNotRunning", err)
	}
}

// connection is a client's, that is kept between requests.
type connection struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (r rotating) connect(t *testing.T) connection {
	t.Helper()
	conn, err := net.DialTimeout("tcp", r.front, 5*time.Second) //nolint:noctx // bounded by its timeout
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return connection{Conn: conn, t: t, r: bufio.NewReader(conn)}
}

func (c connection) request(path string) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: api\r\n\r\n", path); err != nil {
		c.t.Fatal(err)
	}
}

func (c connection) answer() string {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Status
}

func (r rotating) traffic(t *testing.T) Traffic {
	t.Helper()
	got, err := r.client.Traffic(t.Context(), []string{"api", "absent"})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// underWay waits until n requests are: HAProxy begins and ends one in its
// own time, and its master does not answer while it loads its file.
func (r rotating) underWay(t *testing.T, want int) (got Traffic) {
	t.Helper()
	haproxytest.Until(t, fmt.Sprintf("%d requests are under way", want), func() bool {
		var err error
		got, err = r.client.Traffic(t.Context(), []string{"api"})
		return err == nil && got.UnderWay == want
	})
	return got
}

func TestTrafficCountsRequestsAndNotKeptConnections(t *testing.T) {
	t.Parallel()
	r := startRotating(t)
	if got := r.traffic(t); got != (Traffic{}) {
		t.Errorf("at first: got %+v, want nothing", got)
	}
	kept := r.connect(t)
	kept.request("/")
	kept.answer()
	if got := r.underWay(t, 0); got.Begun != 1 {
		t.Errorf("with a kept connection: got %+v, want one begun", got)
	}
	held := r.connect(t)
	held.request("/hold")
	if got := r.underWay(t, 1); got.Begun != 2 {
		t.Errorf("with a request under way: got %+v, want two begun", got)
	}
	r.node.Release()
	held.answer()
	r.underWay(t, 0)
}

func TestTrafficCountsRequestsInOldWorkers(t *testing.T) {
	t.Parallel()
	r := startRotating(t)
	held := r.connect(t)
	held.request("/hold")
	r.underWay(t, 1)
	r.Reload()
	if got := r.underWay(t, 1); got.OldWorkers != 1 || got.Begun != 0 {
		t.Errorf("after a reload: got %+v, want the request in an old worker", got)
	}
	without := newTestClient(t, Options{Runtime: r.Runtime()})
	if got, err := without.Traffic(t.Context(), []string{"api"}); err != nil || got.UnderWay != 0 {
		t.Errorf("without a master socket: got %+v, %v, want none", got, err)
	}
	deaf := newTestClient(t, Options{Runtime: r.Runtime(), Master: r.Master() + ".gone"})
	if got, err := deaf.Traffic(t.Context(), []string{"api"}); err == nil {
		t.Errorf("with a master that does not answer: got %+v, want an error", got)
	}
	r.node.Release()
	held.answer()
	r.underWay(t, 0)
}

func TestTrafficRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	const header = "# pxname,svname,scur,stot,type,\n"
	for name, reply := range map[string]string{
		"no table":         "Permission denied\n",
		"no scur":          "# pxname,svname,stot,type,\napi,BACKEND,1,1,\n",
		"a negative count": header + "api,BACKEND,-1,1,1,\n",
		"a broken total":   header + "api,BACKEND,1,x,1,\n",
	} {
		if got, err := parseTraffic(reply, []string{"api"}); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
	big := header + "api,FRONTEND,9,9,0,\napi,s,9,9,2,\napi,BACKEND,1,99999999999999,1,\nweb,BACKEND,1,1,1,\n"
	if got, err := parseTraffic(big, []string{"api"}); err != nil || got != (Traffic{UnderWay: 1, Begun: 99999999999999}) {
		t.Errorf("a long-lived backend: got %+v, %v", got, err)
	}
}

func FuzzParseTraffic(f *testing.F) {
	f.Add("# pxname,svname,scur,stot,type,\napi,BACKEND,1,2,1,\n\n")
	f.Fuzz(func(t *testing.T, reply string) {
		if got, err := parseTraffic(reply, []string{"api"}); err == nil && got.UnderWay < 0 {
			t.Errorf("got %+v", got)
		}
	})
}
