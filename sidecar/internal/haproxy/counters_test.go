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
		got := all.Servers["s"]
		if err != nil || got.Requests == 0 || min(got.Errors, got.Requests) != want.errors || got.Retries != want.retries ||
			(got.ResponseTime >= 20*time.Millisecond) != want.isSlow {
			t.Errorf("%s: got %+v, %v, want %+v", want.backend, got, err, want)
		}
	}
	if all, err := c.Counters(t.Context(), "none"); err != nil || len(all.Servers) > 0 {
		t.Errorf("no such backend: %v, %v", all, err)
	}
}

func TestParseCounters_Malformed_NamesTheColumn(t *testing.T) {
	t.Parallel()
	const header = "# pxname,svname,stot,hrsp_4xx,hrsp_5xx,econ,eresp,wretr,rtime,type,\n"
	for reply, want := range map[string]string{
		header + "b,s,1,0,x,0,0,0,0,2,\n":                    `show stat: unexpected reply: hrsp_5xx "x": not a number of 0 or more in "b,s,1,0,x,0,0,0,0,2,"`,
		header + "b,s,18446744073709551616,0,0,0,0,0,0,2,\n": `show stat: unexpected reply: stot "18446744073709551616": not a number of 0 or more in "b,s,18446744073709551616,0,0,0,0,0,0,2,"`,
		"# pxname,svname,type,\nb,s,2,\n":                    `show stat: unexpected reply: no stot in "b,s,2,"`,
		"Unknown command":                                    `show stat: unexpected reply: "Unknown command"`,
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
	if slow := all.Servers["slow"]; err != nil || slow.Weight < 1 || slow.Weight > 10 || slow.SlowStart < 1 || slow.SlowStart > 10 {
		t.Errorf("got %+v, %v, want a slow start that has begun", slow, err)
	}
	if s := all.Servers["s"]; s.Weight != 100 || s.SlowStart != 0 {
		t.Errorf("got %+v, want no slow start", s)
	}
}

// Whose answer a 404 or 503 is, as real HAProxies count it.
func TestCounters_EachAnswer_IsTheServicesOrHAProxys(t *testing.T) {
	t.Parallel()
	late := make(chan struct{}, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/breaks":
			panic(http.ErrAbortHandler)
		case "/late":
			late <- struct{}{}
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	up := "server s " + server.Listener.Addr().String()
	var file strings.Builder
	front := map[string]string{}
	for name, lines := range map[string]string{
		"good": up, "empty": "", "maint": up + " disabled", "refused": "server s " + haproxytest.FreeAddr(t).String(),
		"rules": "http-request deny deny_status 403 if { path /denied }\n  http-request return status 503 if { path /returned }\n  " + up,
		"full":  up + " maxconn 1",
	} {
		front[name] = haproxytest.FreeAddr(t).String()
		fmt.Fprintf(&file, "frontend f_%s\n  bind %s\n  mode http\n  timeout client 9s\n  default_backend %s\nbackend %s\n  mode http\n  option httpclose\n  retries 0\n  timeout connect 9s\n  timeout server 2s\n  timeout queue 300ms\n  %s\n", name, front[name], name, name, lines)
	}
	p := haproxytest.Start(t, file.String())
	c := newTestClient(t, Options{Runtime: p.Runtime()})
	get := func(name, path string) {
		if res, err := http.Get("http://" + front[name] + path); err == nil { //nolint:noctx // loopback, bounded by HAProxy's own timeouts
			_ = res.Body.Close()
		}
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		get("full", "/late") // 504
	}()
	<-late
	get("full", "/") // waits too long
	for _, path := range []string{"/", "/404", "/503", "/breaks", "/late"} {
		get("good", path)
	}
	get("empty", "/")
	get("maint", "/")
	get("refused", "/")
	get("rules", "/denied")
	get("rules", "/returned")
	<-held
	for name, want := range map[string]Answers{
		"good":    {Requests: 5, Status4xx: 1, Service4xx: 1, Status5xx: 3, Service5xx: 1, Broken: 2},
		"empty":   {Requests: 1, Status5xx: 1, NoServer: 1},
		"maint":   {Requests: 1, Status5xx: 1, NoServer: 1},
		"refused": {Requests: 1, Status5xx: 1, NoServer: 1},
		"rules":   {Requests: 2, Status4xx: 1, Status5xx: 1, Denied: 1},
		"full":    {Requests: 2, Status5xx: 2, NoServer: 1, Broken: 1},
	} {
		got, err := c.Counters(t.Context(), name)
		if name == "good" && got.Answers.Requests >= want.Requests && got.Answers.Broken >= want.Broken { // a client tries again, and 3.4 counts some twice
			got.Answers.Requests, got.Answers.Broken = want.Requests, want.Broken
		}
		if err != nil || got.Answers != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got.Answers, err, want)
		}
	}
}
