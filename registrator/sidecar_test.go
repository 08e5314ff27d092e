package registrator

import (
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
)

// FuzzSidecarsOf: whatever is registered, the dialled address is one host and one
// port, and the log has one line.
func FuzzSidecarsOf(f *testing.F) {
	f.Add("id", "lb0", "192.0.2.1", 9600, "api", "")
	f.Add("id", "lb0", "fe80::1%eth0", 9600, "*", "https")
	f.Add("i\nd", "l\x00b", "a/b@c:1", -1, "api,,", "x")
	f.Add("", "", "", 0, "", "")
	f.Fuzz(func(t *testing.T, id, name, address string, port int, routes, scheme string) {
		got := sidecarsOf([]*api.ServiceEntry{nil, {}, {
			Node: &api.Node{Node: id, Address: "192.0.2.9"},
			Service: &api.AgentService{ID: id, Address: address, Port: port, Meta: map[string]string{
				contract.KeyBalancer: name, contract.KeyRoutes: routes, contract.KeyScheme: scheme,
			}},
		}}, "api", "dc1", "")
		if len(got) > 1 {
			t.Fatalf("%d sidecars of one registration", len(got))
		}
		for _, s := range got {
			if s.name == "" || strings.ContainsFunc(s.name, func(r rune) bool { return r < ' ' }) {
				t.Errorf("name %q", s.name)
			}
			if (s.at == "") != (s.bad != nil) {
				t.Errorf("%q, and the error %v", s.at, s.bad)
			}
			if strings.ContainsAny(s.at, " /@?#%\r\n\x00") {
				t.Errorf("address %q", s.at)
			}
		}
	})
}
