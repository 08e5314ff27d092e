package haproxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/test/lab"
)

// HAProxy's own words for why a server is down; none for one that is up.
func TestObserve_ServerDown_TellsItsLastCheck(t *testing.T) {
	t.Parallel()
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/good" {
			http.NotFound(w, r)
		}
	}))
	defer node.Close()
	program := lab.Listen(t, func(c net.Conn) { _, _ = c.Write([]byte("down #broken\n")) })
	port := strconv.Itoa(program.Port)
	at := strings.TrimPrefix(node.URL, "http://")
	backend := func(name, path, server string) string {
		return "backend " + name + "\n  mode http\n  option httpchk GET " + path + "\n  server s " + server + " check inter 1s fall 1\n"
	}
	p := haproxytest.StartWith(t, marked(testMark), backend("good", "/good", at)+backend("bad", "/bad", at)+
		backend("tls", "/good", at+" ssl verify none")+backend("agent", "/good", at+" agent-check agent-inter 1s agent-port "+port)+
		"backend maint\n  server s "+at+" check disabled\n")
	s := newSubject(t, p.Runtime(), p.Master())
	got := map[string]plan.Server{}
	p.Until("three servers are down", func() bool {
		for name, b := range s.observe(t, "good", "bad", "tls", "agent", "maint").Backends {
			got[name] = b.Servers[0]
		}
		return !got["bad"].Up && !got["tls"].Up && !got["agent"].Up
	})
	for name, want := range map[string]plan.Check{
		"good": {}, "maint": {},
		"bad": {Status: "L7STS", Code: 404, Words: "Not Found"},
	} {
		if got[name].Check != want {
			t.Errorf("%s: got %+v, want %+v", name, got[name].Check, want)
		}
	}
	// 2.6 does not always say why.
	if c := got["tls"].Check; c.Status != "L6RSP" || c.Words != "" && c.Words != "SSL handshake failure" {
		t.Errorf("tls: got %+v, want L6RSP: SSL handshake failure", c)
	}
	if c := got["agent"].Check; c.Status != "L7STS" || !strings.Contains(c.Words, "broken") {
		t.Errorf("agent: got %+v, want L7STS with its agent's words", c)
	}
}
