package haproxy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
)

// What a canary is judged by, as real HAProxies count it: each kind of failure is one.
func TestCounters_EachKindOfFailure_IsCounted(t *testing.T) {
	t.Parallel()
	const requests = 3
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(30 * time.Millisecond):
		case <-r.Context().Done():
		}
	}))
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	breaking := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	for _, s := range []*httptest.Server{slow, failing, breaking} {
		t.Cleanup(s.Close)
	}
	refusing := haproxytest.FreeAddr(t).String()
	file, front := "", map[string]string{}
	for name, addr := range map[string]string{
		"slow": slow.Listener.Addr().String(), "failing": failing.Listener.Addr().String(),
		"breaking": breaking.Listener.Addr().String(), "refusing": refusing,
	} {
		front[name] = haproxytest.FreeAddr(t).String()
		file += fmt.Sprintf("frontend f_%s\n  bind %s\n  mode http\n  default_backend %s\nbackend %s\n  mode http\n  retries 1\n  timeout connect 1s\n  server s %s\n",
			name, front[name], name, name, addr)
	}
	tcp := haproxytest.FreeAddr(t).String()
	file += fmt.Sprintf("frontend f_tcp\n  bind %s\n  mode tcp\n  default_backend tcp\nbackend tcp\n  mode tcp\n  server s %s\n", tcp, slow.Listener.Addr())
	front["tcp"] = tcp
	p := haproxytest.Start(t, file)
	c := newTestClient(t, Options{Runtime: p.Runtime()})

	for name, addr := range front {
		for range requests {
			res, err := http.Get("http://" + addr) //nolint:noctx // loopback, bounded by HAProxy's own timeouts
			if err == nil {
				_ = res.Body.Close() // its status is HAProxy's to count
			} else if opErr := (*net.OpError)(nil); errors.As(err, &opErr) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	for _, want := range []struct {
		backend         string
		errors, retries uint64
		isSlow          bool
	}{
		{"slow", 0, 0, true},
		{"failing", requests, 0, false},
		{"breaking", requests, 0, false},
		{"refusing", requests, requests, false},
		{"tcp", 0, 0, false},
	} {
		all, err := c.Counters(t.Context(), want.backend)
		got := all["s"]
		if err != nil || got.Requests == 0 || min(got.Errors, got.Requests) != want.errors || got.Retries != want.retries ||
			(got.ResponseTime >= 20*time.Millisecond) != want.isSlow {
			t.Errorf("%s: got %+v, %v, want %+v", want.backend, got, err, want)
		}
	}
	if all, err := c.Counters(t.Context(), "none"); err != nil || len(all) > 0 {
		t.Errorf("no such backend: %v, %v", all, err)
	}
}

func TestParseCounters_Malformed_NamesTheColumn(t *testing.T) {
	t.Parallel()
	const header = "# pxname,svname,stot,hrsp_5xx,econ,eresp,wretr,rtime,type,\n"
	for reply, want := range map[string]string{
		header + "b,s,1,x,0,0,0,0,2,\n":                    `show stat: unexpected reply: hrsp_5xx "x": not a number of 0 or more in "b,s,1,x,0,0,0,0,2,"`,
		header + "b,s,18446744073709551616,0,0,0,0,0,2,\n": `show stat: unexpected reply: stot "18446744073709551616": not a number of 0 or more in "b,s,18446744073709551616,0,0,0,0,0,2,"`,
		"# pxname,svname,type,\nb,s,2,\n":                  `show stat: unexpected reply: no stot in "b,s,2,"`,
		"Unknown command":                                  `show stat: unexpected reply: "Unknown command"`,
	} {
		if got, err := countersIn(backendRows{"b", reply}); errText(err) != want {
			t.Errorf("%q: %v, %v, want %s", reply, got, err, want)
		}
	}
}

// A server in its slow start gets less than its weight says.
func TestCounters_SlowStart_HasItsWeightOfNow(t *testing.T) {
	t.Parallel()
	p := haproxytest.Start(t, "backend b\n  mode http\n  server slow "+haproxytest.FreeAddr(t).String()+" weight 100 slowstart 1000s disabled\n  server s "+haproxytest.FreeAddr(t).String()+" weight 100\n")
	c := newTestClient(t, Options{Runtime: p.Runtime()})
	if reply := p.Command("set server b/slow state ready"); strings.TrimSpace(reply) != "" {
		t.Fatal(reply)
	}
	all, err := c.Counters(t.Context(), "b")
	if slow := all["slow"]; err != nil || slow.Weight < 1 || slow.Weight > 10 || slow.SlowStart < 1 || slow.SlowStart > 10 {
		t.Errorf("got %+v, %v, want a slow start that has begun", slow, err)
	}
	if s := all["s"]; s.Weight != 100 || s.SlowStart != 0 {
		t.Errorf("got %+v, want no slow start", s)
	}
}
