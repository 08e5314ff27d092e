package haproxy

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/test/compat"
)

// What differs between the versions and is dealt with; docs/compatibility.md is
// made of it. That it is dealt with is for the other tests.
func TestWhatThisHAProxyDoes(t *testing.T) {
	t.Parallel()
	p, s := startMarked(t, "backend api\n  server one 127.0.0.1:9\n")
	compat.HAProxy(t, "a new server", map[bool]string{true: "is added at runtime", false: "takes a slot of the file"}[s.dynamic])
	compat.HAProxy(t, "a server that has left", map[bool]string{true: "is deleted at runtime", false: "leaves its slot free"}[s.dynamic])

	reply := p.MasterCommand("reload")
	compat.HAProxy(t, "`reload` on the master socket", map[bool]string{
		true: "answers when it is done, with its result", false: "answers nothing; the new worker is waited for",
	}[strings.HasPrefix(reply, "Success=")])
	haproxytest.Until(t, "the reload is done", func() bool { return s.client.Probe(t.Context()) == nil })

	reply = p.Command("wait 1ms srv-removable api/one")
	compat.HAProxy(t, "`wait … srv-removable`", map[bool]string{true: "no", false: "yes"}[strings.Contains(reply, "nknown command")])
	reply = p.Command("add server api/two 127.0.0.1:9 init-state down")
	compat.HAProxy(t, "`init-state`, by which a server could begin down", map[bool]string{true: "yes", false: "no: its health is set down"}[strings.Contains(reply, "New server registered.")])
}
