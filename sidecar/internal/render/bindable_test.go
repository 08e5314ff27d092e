package render_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

// notHere is an address for documentation, which no machine has.
const notHere = "203.0.113.7:8080"

// taken is an address that another program listens on.
func taken(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address) //nolint:noctx // it does not block
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// bindWeb returns settings of two services, the second of which binds these.
func bindWeb(api string, web ...string) render.Settings {
	s := two(func(s *render.Service) { s.Bind = web })
	s.Services[0].Bind = []string{api}
	return s
}

// worker starts a HAProxy that listens on an address and gives its process id.
func worker(t *testing.T, address string) int {
	t.Helper()
	return started(t, haproxytest.Options{}, address)
}

func started(t *testing.T, o haproxytest.Options, address string) int {
	t.Helper()
	p := haproxytest.StartWith(t, o, "frontend f\n  bind "+address+"\n")
	pid, err := p.Worker()
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestWhatANewWorkerCannotListenOnIsReportedBeforeAReload(t *testing.T) {
	api := haproxytest.FreeAddr(t).String()
	_, apiPort, _ := net.SplitHostPort(api)
	pid, four, six := worker(t, api), taken(t, "tcp4", "127.0.0.1:0"), taken(t, "tcp6", "[::1]:0")
	_, takenPort, _ := net.SplitHostPort(four)
	free, inUse, away := haproxytest.FreeAddr(t).String(), "address already in use", "cannot assign requested address"
	runs := render2(t, newRenderer(t, templates.HAProxy, bindWeb(api, free)))
	for _, c := range []struct {
		bind string
		want string // why not; "" is that it can
	}{
		{free, ""},
		{haproxytest.FreeAddr(t).String(), ""},
		{four, inUse},
		{"*:" + takenPort, inUse},
		{":" + takenPort, inUse},
		{"ipv4@" + four, inUse},
		{four + "-" + takenPort, inUse},
		{six, inUse},
		{six + " v6only", inUse},
		{haproxytest.FreeAddr(t).String() + "," + four, inUse},
		{notHere, away},
		{"[2001:db8::7]:80", away},
		// HAProxy has the port itself, or binds in another way than we do, or
		// only HAProxy can say where that is.
		{"127.0.0.2:" + apiPort, ""},
		{"*:" + apiPort, ""},
		{four + " interface lo", ""},
		{notHere + " transparent", ""},
		{"localhost:" + takenPort, ""},
		{`"${HOST}:` + takenPort + `"`, ""},
		{"127.0.0.1:" + takenPort + "-65535", ""},
		{"/nowhere/s.sock", ""},
		{"quic4@" + four, ""},
	} {
		r := newRenderer(t, templates.HAProxy, bindWeb(api, c.bind))
		content := render2(t, r)
		err := newCfg(t).Bindable(content, runs, pid)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: got %v, want nothing", c.bind, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "for frontend web_nodes.front: cannot bind socket ("+c.want+") for [") || strings.Count(err.Error(), "Binding") != 1 {
			t.Errorf("%s: got %v, want that it cannot be bound: %s", c.bind, err, c.want)
		}
		if got := r.Blame(content, err); !slices.Equal(got, []string{"web_nodes"}) {
			t.Errorf("%s: blamed %q, want web_nodes, of: %v", c.bind, got, err)
		}
	}
}

func TestAllThatCannotBeListenedOnIsReportedAtOnce(t *testing.T) {
	api := haproxytest.FreeAddr(t).String()
	s := bindWeb(api, notHere)
	before := render2(t, newRenderer(t, templates.HAProxy, bindWeb(api, haproxytest.FreeAddr(t).String())))
	s.StatsBind = taken(t, "tcp", "127.0.0.1:0")
	r := newRenderer(t, templates.HAProxy, s)
	content := render2(t, r)
	err := newCfg(t).Bindable(content, before, worker(t, api))
	if err == nil || !strings.Contains(err.Error(), "for frontend statistics:") || !strings.Contains(err.Error(), "for frontend web_nodes.front:") {
		t.Fatalf("got %v, want both", err)
	}
	if got := r.Blame(content, err); got != nil {
		t.Errorf("blamed %q, want none: without web it could not be loaded either", got)
	}
}

// HAProxy connects to the other peers. Their addresses come from Consul, so that a
// wrong one would keep it from all reloads.
func TestBindable_OtherPeers_AreNotTried(t *testing.T) {
	api := haproxytest.FreeAddr(t).String()
	own, other := haproxytest.FreeAddr(t), netip.MustParseAddrPort("203.0.113.7:1")
	s := bindWeb(api, haproxytest.FreeAddr(t).String())
	s.Peers = []render.Peer{{Name: "lb0", Address: own}}
	before, pid := render2(t, newRenderer(t, templates.HAProxy, s)), worker(t, api)
	s.Peers = append(s.Peers, render.Peer{Name: "lb1", Address: other})
	if err := newCfg(t).Bindable(render2(t, newRenderer(t, templates.HAProxy, s)), before, pid); err != nil {
		t.Errorf("another load balancer: got %v, want nothing", err)
	}
	s.Peers[0].Address, s.Peers[1].Address = other, own
	if err := newCfg(t).Bindable(render2(t, newRenderer(t, templates.HAProxy, s)), before, pid); err == nil || !strings.Contains(err.Error(), "203.0.113.7:1") {
		t.Errorf("this load balancer at an address that it does not have: got %v, want so", err)
	}
}

// A sidecar in another network knows nothing of HAProxy's addresses, and must
// not keep it from a reload.
func TestNothingIsSaidOfAnotherNetwork(t *testing.T) {
	api, four := haproxytest.FreeAddr(t).String(), taken(t, "tcp", "127.0.0.1:0")
	before := render2(t, newRenderer(t, templates.HAProxy, bindWeb(api, haproxytest.FreeAddr(t).String())))
	content := render2(t, newRenderer(t, templates.HAProxy, bindWeb(api, four)))
	pid, c := worker(t, api), newCfg(t)
	if err := c.Bindable(content, before, pid); err == nil {
		t.Error("in the same network: got nothing")
	}
	for name, err := range map[string]error{
		"no such process":                   c.Bindable(content, before, 1<<30),
		"another program":                   c.Bindable(content, before, os.Getpid()),
		"unknown what it has":               c.Bindable(content, nil, pid),
		"a HAProxy of a network of its own": c.Bindable(content, before, started(t, haproxytest.Options{Network: true}, "*:80")),
	} {
		if err != nil {
			t.Errorf("%s: got %v, want nothing", name, err)
		}
	}
}

// HAProxy may have an address that its file does not tell: then no other program
// need be the one who has it.
func TestWhatHAProxyMayHaveItselfIsNotTakenForAnotherPrograms(t *testing.T) {
	api, four := haproxytest.FreeAddr(t).String(), taken(t, "tcp", "127.0.0.1:0")
	before := render2(t, newRenderer(t, templates.HAProxy, bindWeb(api, "localhost:9999")))
	pid, c := worker(t, api), newCfg(t)
	if err := c.Bindable(render2(t, newRenderer(t, templates.HAProxy, bindWeb(api, four))), before, pid); err != nil {
		t.Errorf("in use, perhaps by HAProxy: got %v, want nothing", err)
	}
	_, port, _ := net.SplitHostPort(four)
	before = render2(t, newRenderer(t, templates.HAProxy, bindWeb(four, api))) // as if HAProxy had it as another user
	if err := c.Bindable(render2(t, newRenderer(t, templates.HAProxy, bindWeb("*:"+port, api))), before, pid); err != nil {
		t.Errorf("HAProxy has the port at another address: got %v, want nothing", err)
	}
	if err := c.Bindable(render2(t, newRenderer(t, templates.HAProxy, bindWeb(api, notHere))), before, pid); err == nil {
		t.Error("not on this machine: got nothing")
	}
}

// The words are those of HAProxy 2.6 and of 3.0 and newer.
func TestTheServiceThatANewWorkerCannotListenForIsFound(t *testing.T) {
	r := newRenderer(t, templates.HAProxy, two(nil))
	content := render2(t, r)
	line := 1 + strings.Count(string(content[:strings.Index(string(content), "    bind 127.0.0.1:8081")]), "\n")
	const last = "[ALERT]    (18406) : [haproxy.main()] Some protocols failed to start their listeners! Exiting."
	for _, c := range []struct {
		words string
		want  []string
	}{
		{fmt.Sprintf("[ALERT]    (17971) : Binding [/tmp/x/haproxy.cfg:%d] for frontend web_nodes.front: cannot bind socket (Address already in use) for [127.0.0.1:8081]\n", line) + last, []string{"web_nodes"}},
		{fmt.Sprintf("[ALERT]    (18406) : Binding [/other/name.cfg:%d] for frontend web_nodes.front: protocol tcpv4: cannot bind socket (Permission denied) for [127.0.0.1:8081].\n", line) + last, []string{"web_nodes"}},
		{fmt.Sprintf("[ALERT]    (18406) : Binding [/other/name.cfg:%d] for frontend other: protocol tcpv4: cannot bind socket (Permission denied) for [127.0.0.1:81].\n", line) + last, nil},
		{"[ALERT]    (18406) : Binding [/tmp/x/haproxy.cfg:7] for proxy GLOBAL: cannot bind UNIX socket (No such file or directory) [/nowhere/x.sock]\n" + last, nil},
		{last, nil},
	} {
		if got := r.Blame(content, wordsOf(c.words)); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q, of: %s", got, c.want, c.words)
		}
	}
}

// wordsOf is an error of another package that has HAProxy's words.
type wordsOf string

func (w wordsOf) Error() string { return string(w) }
func (w wordsOf) Words() string { return string(w) }
