// Package hostile is what an attacker registers in Consul who wants to reach the
// HAProxy behind it, or who does not know better. One table for three levels of
// tests: how entries are read, what the sidecar sends and writes, and the whole
// on real processes.
//
// Its invariant: every payload holds Payload, so that a test can look for it
// wherever it must not come. It imports nothing of ours, and only tests
// import it.
package hostile

import (
	"fmt"
	"strings"
)

// Payload is the word by which what was injected is found.
const Payload = "pwned"

// Instance is one registration in Consul's catalog.
type Instance struct {
	Why               string // what it tries
	Node, NodeAddress string
	ID, Address       string
	Port              int
	Tags              []string
	Meta              map[string]string
	Kind              string

	// Legal is set where everything that HAProxy gets of it is well-formed:
	// it is served, under whatever name. The others must be left out, and named.
	Legal bool
}

// Loopback are the networks of the table's legal addresses. They are of loopback,
// so that nothing leaves the machine, and must be allowed: the table's nodes are
// other machines.
const Loopback = "127.0.0.0/8"

// Instances returns the table. Nothing listens at its addresses.
func Instances() []Instance {
	var all []Instance
	for i, n := range names() {
		all = append(all,
			Instance{Why: "an ID with " + n.why, Node: "node", ID: n.text, Address: "127.0.1.1", Port: 1000 + i, Legal: true},
			Instance{Why: "a node with " + n.why, Node: n.text, NodeAddress: "127.0.2.1", ID: fmt.Sprintf("by-node-%d", i), Port: 1000 + i, Legal: true},
			Instance{Why: "a tag with " + n.why, Node: "node", ID: fmt.Sprintf("by-tag-%d", i), Address: "127.0.3.1", Port: 1000 + i, Tags: []string{n.text}, Legal: true},
			Instance{
				Why: "meta of others with " + n.why, Node: "node", ID: fmt.Sprintf("by-meta-%d", i), Address: "127.0.4.1", Port: 1000 + i,
				Meta: map[string]string{"note": n.text}, Legal: true,
			},
			Instance{
				Why: "a version with " + n.why, Node: "node", ID: fmt.Sprintf("by-version-%d", i), Address: "127.0.5.1", Port: 1000 + i,
				Meta: map[string]string{"version": n.text}, Legal: true,
			},
			Instance{
				Why: "a drain with " + n.why, Node: "node", ID: fmt.Sprintf("by-drain-%d", i), Address: "127.0.6.1", Port: 1000 + i,
				Meta: map[string]string{"pointsman-drain": n.text},
			},
			Instance{Why: "an address with " + n.why, Node: "node", ID: fmt.Sprintf("by-address-%d", i), Address: "127.0.7.1" + n.text, Port: 1000 + i},
		)
	}
	for i, text := range addresses() {
		all = append(all, Instance{Why: "the address " + text, Node: "node", ID: fmt.Sprintf("at-%d-%s", i, Payload), Address: text, Port: 80})
	}
	for i, kind := range []string{"connect-proxy", "mesh-gateway", "ingress-gateway", "terminating-gateway", "api-gateway", Payload} {
		all = append(all, Instance{Why: "the kind " + kind, Node: "node", ID: fmt.Sprintf("kind-%d-%s", i, Payload), Address: "127.0.11.1", Port: 1000 + i, Kind: kind})
	}
	for _, port := range []int{0, -1, 65536, 70000, 1 << 31} {
		all = append(all, Instance{Why: fmt.Sprint("port ", port), Node: "node", ID: fmt.Sprintf("port-%d-%s", port, Payload), Address: "127.0.8.1", Port: port})
	}
	for i, value := range []string{"-1", "1e9", "99999999999999999999", "0x10", "5\nbackup " + Payload} {
		all = append(all, Instance{
			Why: "maxconn " + value, Node: "node", ID: fmt.Sprintf("maxconn-%d-%s", i, Payload), Address: "127.0.9.1", Port: 1000 + i,
			Meta: map[string]string{"maxconn": value, "backup": value, "pointsman-agent-port": value}, Legal: true,
		})
	}
	return append(all, twins()...)
}

// name is a text for any of the fields that hold one.
type name struct{ why, text string }

func names() []name {
	return []name{
		{"a newline", "a\nserver " + Payload + " 127.0.0.1:1"},
		{"a carriage return", "a\r\nserver " + Payload + " 127.0.0.1:1"},
		{"a second command", "a; set server api_nodes/" + Payload + " state ready"},
		{"spaces", "a " + Payload + " disabled"},
		{"quotes", `a"'` + Payload + `"'`},
		{"a comment", "a#" + Payload},
		{"a backslash at its end", Payload + `\`},
		{"a NUL", "a\x00" + Payload},
		{"an escape sequence", "a\x1b[2J" + Payload},
		{"a variable", "${HOME}" + Payload},
		{"a payload", "a <<\n" + Payload + "\n\n"},
		{"4 KB", strings.Repeat("a", 4096) + Payload},
		{"letters that look like others", "\u0430pi-" + Payload},
		{"a right-to-left override", "a\u202e" + Payload},
		{"a path", "../../" + Payload},
		{"markup", "<script>" + Payload + "</script>"},
		{"a slot's name", "slot-1" + Payload},
		{"a server's number", "#1 " + Payload},
		{"a format", "%s%n{{.}}%[" + Payload + "]"},
	}
}

func addresses() []string {
	return []string{
		"fe80::1%eth0", "fe80::1%" + Payload + "\nx", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
		"127.1", "0x7f000001", "017700000001", "127.0.0.1:80", "127.0.0.1/8", "localhost", Payload + ".example.com",
		"unix@/tmp/" + Payload, "fd@3", "abns@" + Payload, "*", "127.0.0.1,127.0.0.2", "::ffff:0.0.0.0",
		"[127.0.0.1]", "[::1", "[fe80::1]", "0.0.0.1", "::0.0.0.2",
		// Where clouds give credentials, also by way of a translator or a tunnel.
		"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254",
		"169.254.170.2", "fd00:ec2::254", "[fd00:ec2::254]", "fd20:ce::254", "fd00:42::42", "100.100.100.200", "168.63.129.16", "192.0.0.192",
	}
}

// twins are IDs that stand on several nodes, or that would have one name if
// nothing but their illegal characters were replaced.
func twins() []Instance {
	at := func(why, node, id string, port int) Instance {
		return Instance{Why: why, Node: node, ID: id, Address: "127.0.10.1", Port: port, Legal: true}
	}
	return []Instance{
		at("an ID on two nodes", "node-a", "twin-"+Payload, 1001),
		at("an ID on two nodes", "node-b", "twin-"+Payload, 1002),
		at("a slot's name by its hash, on two nodes", "node-a", "slot", 1003),
		at("a slot's name by its hash, on two nodes", "node-b", "slot", 1004),
		at("an ID like another except for a space", "node", "like "+Payload, 1005),
		at("an ID like another except for a semicolon", "node", "like;"+Payload, 1006),
		at("an ID like others with their characters replaced", "node", "like_"+Payload, 1007),
		at("an ID that looks like another's name", "node", "like_"+Payload+"-h0123456789ab", 1008),
	}
}

// Claim is a service whose tags or meta claim routes.
type Claim struct {
	Why     string
	Service string
	Tags    []string
	Meta    map[string]string
}

// The frontend of the tests takes hosts below example.com from every service, and
// VictimHost from Victim only.
const (
	TagPrefix  = "pointsman-route="
	MetaKey    = "pointsman-route"
	VictimHost = "shop.example.com"
	Victim     = "shop"
)

// hosts are such as another writing makes VictimHost of, or nearly, and such as are none.
func hosts() []string {
	return []string{
		"\uff53hop.example.com",                     // a full-width letter: IDNA makes it s
		"shop\u3002example.com",                     // an ideographic full stop: a dot
		"sh\u00adop.example.com",                    // a soft hyphen: nothing
		"sho\u200dp.example.com",                    // a zero-width joiner
		"\u0455hop.example.com",                     // a Cyrillic letter: another host
		"xn--shop-.example.com",                     // punycode of what needs none
		"xn--hop-.example.com", "XN--a.example.com", // no punycode
		"shop.example.com..", ".shop.example.com", "shop..example.com", "-shop.example.com", "shop-.example.com",
		"shop%2Eexample.com", "shop.example.com%00", "%73hop.example.com", "shop.example.com@a.example.com", "a.example.com:80@shop.example.com",
		"[::1]", "127.0.0.1", "shop_.example.com", "shop.example.com,a.example.com", "shop.example.com\\", "*.*.example.com", "sh*p.example.com", "*shop.example.com",
		strings.Repeat("a", 64) + ".example.com", strings.Repeat("a.", 130) + "example.com", strings.Repeat("*.", 20) + "example.com",
	}
}

// Claims returns the table. Some of them are routes that may be taken; all others must be
// refused, and told of. None may have VictimHost.
func Claims() []Claim {
	var all []Claim
	add := func(why, text string) {
		n := len(all)
		all = append(
			all,
			Claim{Why: "a tag with " + why, Service: fmt.Sprintf("by-tag-%d", n), Tags: []string{TagPrefix + text}},
			Claim{Why: "fabio's tag with " + why, Service: fmt.Sprintf("by-fabio-%d", n), Tags: []string{"urlprefix-" + text}},
			Claim{Why: "meta with " + why, Service: fmt.Sprintf("by-meta-%d", n), Meta: map[string]string{MetaKey: text}},
		)
	}
	for _, n := range names() {
		add("a host with "+n.why, n.text+".example.com")
		add("a path with "+n.why, "a.example.com/"+n.text)
		add("an option with "+n.why, "a.example.com/x strip "+n.text)
	}
	for _, text := range []string{
		"(a|" + Payload + ").example.com", "^" + Payload + ".example.com", ".*." + Payload, "**." + Payload + ".example.com", "*", "*.", Payload + ".example.com:80/",
		"a.example.com/.*/" + Payload + "[^/]+\\", "a.example.com/../" + Payload, "a.example.com//" + Payload, "a.example.com/%00" + Payload + "%", "example.com/" + Payload, "/" + Payload,
		VictimHost + "/" + Payload, VictimHost + "./" + Payload, strings.ToUpper(VictimHost) + "/" + Payload, "*." + VictimHost[5:] + "." + Payload,
	} {
		add("the claim "+text, text)
	}
	for _, host := range hosts() {
		add("the host "+host, host+"/"+Payload)
	}
	for _, path := range []string{"%2e%2e/", "%2F%2F", "a%0d%0ab", "a%00b", "%", "%zz", "a%23b", "%C0%AE%C0%AE/", strings.Repeat("/x", 1000), "x?y=" + VictimHost, "x#y"} {
		add("the path "+path, "a.example.com/"+path+"/"+Payload)
	}
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("%sr%d.example.com/%s", TagPrefix, i, Payload))
	}
	return append(
		all,
		Claim{Why: "10,000 routes", Service: "many-" + Payload, Tags: many},
		Claim{Why: "the name of another backend", Service: "own", Tags: []string{TagPrefix + VictimHost + "/" + Payload}},
		Claim{Why: "a name with a space", Service: "a " + Payload, Tags: []string{TagPrefix + "b.example.com/" + Payload}},
		Claim{Why: "a name with a newline", Service: "a\nbackend " + Payload, Tags: []string{TagPrefix + "b.example.com/" + Payload}},
		Claim{Why: "a reserved name", Service: "pointsman." + Payload, Tags: []string{TagPrefix + "b.example.com/" + Payload}},
		Claim{Why: "a profile that is none", Service: "profile-" + Payload, Tags: []string{TagPrefix + "c.example.com/" + Payload}, Meta: map[string]string{"pointsman-profile": "a\n" + Payload}},
	)
}
