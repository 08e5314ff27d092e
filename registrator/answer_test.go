package registrator

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
)

// FuzzParseAnswer: only an answer that says it of this load balancer, service
// and instance, word for word, ends the wait for it.
func FuzzParseAnswer(f *testing.F) {
	const good = `{"load_balancer":"lb0","service":"api","instance":"api-1","drained":true,"phase":"out","sessions":0,"index":42,"waited_ms":412.3}`
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, "true", "false", 1)))
	f.Add([]byte(strings.Replace(good, `"sessions":0`, `"sessions":1e99`, 1)))
	f.Add([]byte(strings.Replace(good, `"drained"`, `"Drained"`, 1)))
	f.Add([]byte(good + good))
	f.Add([]byte(`{"load_balancer":"lb0"}`))
	f.Add([]byte(`{"load_balancer":"lb0","index":1e700}`))
	f.Add([]byte(`null`))
	f.Add([]byte(strings.Repeat("[", 5000)))
	q := request{balancer: "lb0", service: "api", instance: "api-1"}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseAnswer(body, q)
		if err != nil {
			if got != (answer{}) {
				t.Errorf("%+v besides the error %v", got, err)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			for _, c := range []byte(err.Error()) {
				if c < ' ' && c != '\n' { // between joined errors
					t.Errorf("the error %q has a control character", err)
				}
			}
		}
		var said map[string]any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber() // there are numbers that no float64 holds
		same := json.Valid(body) && d.Decode(&said) == nil && said["load_balancer"] == "lb0"
		if _, err := parseNotRouted(body, q); (err == nil) != same {
			t.Errorf("as a 404: %v, and it is this load balancer's: %t", err, same)
		}
		if err != nil {
			return
		}
		if !same || said["service"] != "api" || said["instance"] != "api-1" || said["drained"] != got.drained {
			t.Errorf("%q is read as %+v", body, got)
		}
		if got.sessions < 0 || got.drained && got.sessions > 0 || !got.routed {
			t.Errorf("%q is read as %+v", body, got)
		}
	})
}

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
		}}, "api")
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
