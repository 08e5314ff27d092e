package consul

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// at makes a good entry, which change then spoils.
func at(id, node string, change ...func(*entry)) entry {
	var e entry
	e.Node.Node, e.Node.Address = node, "10.0.0.9"
	e.Service.ID, e.Service.Address, e.Service.Port = id, "10.0.0.1", 80
	e.Service.Weights = &weights{Passing: 1, Warning: 1}
	e.Checks = []check{{CheckID: "serfHealth", Status: "passing"}}
	for _, c := range change {
		c(&e)
	}
	return e
}

// good is what at makes.
func good(id, node string, change ...func(*catalog.Instance)) catalog.Instance {
	i := catalog.Instance{ID: id, Node: node, Server: id, Addr: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1}
	for _, c := range change {
		c(&i)
	}
	return i
}

func kind(s string) func(*entry) { return func(e *entry) { e.Service.Kind = s } }

func address4(s string) func(*entry) { return func(e *entry) { e.Service.Address = s } }
func port(n int) func(*entry)        { return func(e *entry) { e.Service.Port = n } }
func said(pairs ...string) func(*entry) {
	return func(e *entry) {
		e.Service.Meta = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			e.Service.Meta[pairs[i]] = pairs[i+1]
		}
	}
}

func checks(pairs ...string) func(*entry) {
	return func(e *entry) {
		e.Checks = nil
		for i := 0; i < len(pairs); i += 2 {
			e.Checks = append(e.Checks, check{CheckID: pairs[i], Status: pairs[i+1]})
		}
	}
}

func weighs(passing, warning int) func(*entry) {
	return func(e *entry) { e.Service.Weights = &weights{passing, warning} }
}

func TestListOfOneInstance(t *testing.T) {
	since := time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC)
	addr := func(s string) func(*catalog.Instance) {
		return func(i *catalog.Instance) { i.Addr = netip.MustParseAddrPort(s) }
	}
	health := func(h catalog.Health) func(*catalog.Instance) { return func(i *catalog.Instance) { i.Health = h } }
	weight := func(w int) func(*catalog.Instance) { return func(i *catalog.Instance) { i.Weight = w } }
	tests := map[string]struct {
		change   func(*entry)
		want     func(*catalog.Instance)
		rejected string // in the rejection's error; "" for an instance that is taken
		remark   string
	}{
		"as registered":                        {},
		"the node's address where it has none": {change: address4(""), want: addr("10.0.0.9:80")},
		"IPv6 in brackets":                     {change: address4("[2001:db8::1]"), want: addr("[2001:db8::1]:80")},
		"typical":                              {change: kind("typical")},
		"a proxy of the mesh":                  {change: kind("connect-proxy"), rejected: `service kind "connect-proxy"`},
		"a gateway":                            {change: kind("mesh-gateway"), rejected: "mesh-gateway"},
		"IPv6":                                 {change: address4("2001:db8::1"), want: addr("[2001:db8::1]:80")},
		"IPv4 mapped into IPv6 is IPv4":        {change: address4("::ffff:10.1.2.3"), want: addr("10.1.2.3:80")},
		"the highest port":                     {change: port(65535), want: addr("10.0.0.1:65535")},

		"no address at all": {change: func(e *entry) { e.Service.Address, e.Node.Address = "", "" }, rejected: "neither the service nor its node has an address"},
		"a host name":       {change: address4("web.example.com"), rejected: `service address "web.example.com": a host name; set resolve: true to have it looked up`},
		"a bad address does not fall to the node's": {change: address4("10.0.0.1 "), rejected: `service address "10.0.0.1 "`},
		"an address with a command":                 {change: address4("10.0.0.1;disable frontend x"), rejected: "not an IP address"},
		"an address with a line":                    {change: address4("10.0.0.1\nserver x"), rejected: `"10.0.0.1\nserver x"`},
		"an address with a zone":                    {change: address4("fe80::1%eth0"), rejected: "zone"},
		"an address with a port":                    {change: address4("10.0.0.1:80"), rejected: "not an IP address"},
		"a node's address that is a name":           {change: func(e *entry) { e.Service.Address, e.Node.Address = "", "node1" }, rejected: `node address "node1"`},

		"unspecified IPv4":                  {change: address4("0.0.0.0"), rejected: "not the address of one machine"},
		"unspecified IPv6":                  {change: address4("::"), rejected: "not the address of one machine"},
		"unspecified IPv4 mapped into IPv6": {change: address4("::ffff:0.0.0.0"), rejected: "not the address of one machine"},
		"multicast":                         {change: address4("224.0.0.1"), rejected: "not the address of one machine"},
		"broadcast":                         {change: address4("255.255.255.255"), rejected: "not the address of one machine"},
		"a leading zero, octal to some":     {change: address4("010.0.0.1"), rejected: "not an IP address"},

		"port 0":                                {change: port(0), rejected: "port 0: want 1 to 65535"},
		"a port that HAProxy would cut to 4464": {change: port(70000), rejected: "port 70000"},
		"a negative port":                       {change: port(-1), rejected: "port -1"},
		"an empty ID":                           {change: func(e *entry) { e.Service.ID = "" }, rejected: "service ID is empty"},

		"no checks is passing":                    {change: checks(), want: health(catalog.Passing)},
		"warning is worse than passing":           {change: checks("a", "passing", "b", "warning"), want: health(catalog.Warning)},
		"critical is worse than warning":          {change: checks("a", "critical", "b", "warning"), want: health(catalog.Critical)},
		"service maintenance is the worst":        {change: checks("_service_maintenance:x", "critical", "b", "critical"), want: health(catalog.Maintenance)},
		"node maintenance is the worst":           {change: checks("_node_maintenance", "critical", "b", "passing"), want: health(catalog.Maintenance)},
		"a check that is only called like it":     {change: checks("x_node_maintenance", "passing"), want: health(catalog.Passing)},
		"a state that Consul does not have":       {change: checks("a", "passing", "b", "fine"), want: health(catalog.Critical)},
		"a check without a state is not passing":  {change: checks("a", ""), want: health(catalog.Critical)},
		"the weight is Consul's":                  {change: weighs(100, 10), want: weight(100)},
		"the weight of a warning is its own":      {change: func(e *entry) { weighs(100, 10)(e); checks("a", "warning")(e) }, want: func(i *catalog.Instance) { i.Weight, i.Health = 10, catalog.Warning }},
		"the weight of a critical is the passing": {change: func(e *entry) { weighs(100, 10)(e); checks("a", "critical")(e) }, want: func(i *catalog.Instance) { i.Weight, i.Health = 100, catalog.Critical }},
		"a weight above HAProxy's is cut":         {change: weighs(65535, 1), want: weight(256)},
		"a weight below 0 is cut":                 {change: weighs(-1, 1), want: weight(0)},
		"a weight of 0 is kept":                   {change: func(e *entry) { weighs(1, 0)(e); checks("a", "warning")(e) }, want: func(i *catalog.Instance) { i.Weight, i.Health = 0, catalog.Warning }},
		"no weights is 1":                         {change: func(e *entry) { e.Service.Weights = nil }, want: weight(1)},

		"the contract's meta": {
			change: said("version", "1.1", "backup", "true", "maxconn", "50", "pointsman-drain", "2026-11-23T16:04:05+01:00"),
			want: func(i *catalog.Instance) {
				i.Version, i.Backup, i.MaxConn, i.Leaving = "1.1", true, 50, since
			},
		},
		"a bad version is ignored":         {change: said("version", "1\n2"), remark: `meta "version": "1\n2"`},
		"a bad maxconn is no limit":        {change: said("maxconn", "-5", "version", "2"), want: func(i *catalog.Instance) { i.Version = "2" }, remark: `"-5"`},
		"a bad backup is a backup":         {change: said("backup", "yes"), want: func(i *catalog.Instance) { i.Backup = true }, remark: "treated as a backup"},
		"a bad drain leaves it out":        {change: said("pointsman-drain", "soon"), rejected: `meta "pointsman-drain": "soon" is not an RFC 3339 time such as 2026-01-02T15:04:05Z: treated as leaving`},
		"meta of others is not looked at":  {change: said("x", "\x00\n;")},
		"an agent port":                    {change: said("pointsman-agent-port", "4001"), want: func(i *catalog.Instance) { i.AgentPort = 4001 }},
		"an agent port that is none":       {change: said("pointsman-agent-port", "0", "version", "2"), want: func(i *catalog.Instance) { i.Version = "2" }, remark: `meta "pointsman-agent-port": "0" is not a port from 1 to 65535: ignored`},
		"an agent port with more behind":   {change: said("pointsman-agent-port", "80 ssl"), want: func(*catalog.Instance) {}, remark: `"80 ssl"`},
		"two bad keys are both remarked":   {change: said("maxconn", "x", "version", "é"), remark: `"maxconn"`},
		"a drain and a bad version is out": {change: said("pointsman-drain", "soon", "version", "\n"), rejected: "pointsman-drain"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := at("a", "n1")
			if tc.change != nil {
				tc.change(&e)
			}
			got := list(registrations([]entry{e}), admission{})
			if tc.rejected != "" {
				if len(got.instances) != 0 || len(got.rejected) != 1 || !strings.Contains(got.rejected[0].Err.Error(), tc.rejected) {
					t.Fatalf("list = %+v, want one rejection with %q", got, tc.rejected)
				}
				if r := got.rejected[0]; r.ID != e.Service.ID || r.Node != "n1" {
					t.Errorf("rejection = %+v, want ID %q and node n1 in it", r, e.Service.ID)
				}
				return
			}
			want := good("a", "n1")
			if tc.want != nil {
				tc.want(&want)
			}
			if diff := cmp.Diff([]catalog.Instance{want}, got.instances, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" || len(got.rejected) != 0 {
				t.Errorf("instances differ (-want +got), rejected %v:\n%s", got.rejected, diff)
			}
			if (len(got.remarks) > 0) != (tc.remark != "") || tc.remark != "" && !strings.Contains(got.remarks[0].Err.Error(), tc.remark) {
				t.Errorf("remarks = %v, want %q", got.remarks, tc.remark)
			}
		})
	}
}

func TestListOfSeveral(t *testing.T) {
	named := func(server string) func(*catalog.Instance) {
		return func(i *catalog.Instance) { i.Server = server }
	}
	tests := map[string]struct {
		entries   []entry
		instances []catalog.Instance
		rejected  []string // ID@node, in order
	}{
		"none": {},
		"sorted by server": {
			entries:   []entry{at("b", "n1"), at("a", "n2"), at("c", "n1")},
			instances: []catalog.Instance{good("a", "n2"), good("b", "n1"), good("c", "n1")},
		},
		"one ID on two nodes is two servers, both named with the node": {
			entries: []entry{at("a", "n1"), at("a", "n2"), at("b", "n1")},
			instances: sorted(
				good("a", "n1", named(catalog.ServerName("a", "n1"))),
				good("a", "n2", named(catalog.ServerName("a", "n2"))),
				good("b", "n1"),
			),
		},
		"a bad one counts for the names of the others": {
			entries:   []entry{at("a", "n1", port(0)), at("a", "n2")},
			instances: []catalog.Instance{good("a", "n2", named(catalog.ServerName("a", "n2")))},
			rejected:  []string{"a@n1"},
		},
		"of the same twice none is taken": {
			entries:   []entry{at("a", "n1"), at("b", "n1"), at("a", "n1", address4("10.9.9.9"))},
			instances: []catalog.Instance{good("b", "n1")},
			rejected:  []string{"a@n1", "a@n1"},
		},
		"rejections are sorted by ID and node": {
			entries:  []entry{at("b", "n1", port(0)), at("a", "n2", port(0)), at("a", "n1", port(0))},
			rejected: []string{"a@n1", "a@n2", "b@n1"},
		},
		"an ID that looks like a spare server's name is another name": {
			entries:   []entry{at("slot-1", "n1")},
			instances: []catalog.Instance{good("slot-1", "n1", named(catalog.ServerName("slot-1", "")))},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := list(registrations(tc.entries), admission{})
			if diff := cmp.Diff(tc.instances, got.instances, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("instances differ (-want +got):\n%s", diff)
			}
			var rejected []string
			for _, r := range got.rejected {
				rejected = append(rejected, r.ID+"@"+r.Node)
			}
			if !slices.Equal(rejected, tc.rejected) {
				t.Errorf("rejected = %q, want %q", rejected, tc.rejected)
			}
		})
	}
}

func sorted(in ...catalog.Instance) []catalog.Instance {
	slices.SortFunc(in, func(a, b catalog.Instance) int { return strings.Compare(a.Server, b.Server) })
	return in
}

func TestListDoesNotDependOnOrder(t *testing.T) {
	entries := []entry{at("a", "n1"), at("a", "n2"), at("b", "n1", port(0)), at("c", "n3"), at("c", "n3", address4("10.9.9.9")), at("d", "n1", said("maxconn", "x"))}
	want := list(registrations(entries), admission{})
	for range 50 {
		rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		got := list(registrations(entries), admission{})
		a, b := catalog.Service{Instances: got.instances, Rejected: got.rejected}, catalog.Service{Instances: want.instances, Rejected: want.rejected}
		if !a.Equal(b) {
			t.Fatalf("list of the same entries in another order = %+v, want %+v", got, want)
		}
	}
}

func created(index uint64) func(*entry) {
	return func(e *entry) { e.Service.CreateIndex = index }
}

func TestList_MoreThanMaxInstances_OldestStay(t *testing.T) {
	entries := []entry{
		at("a", "n1", created(9)), at("b", "n1", created(7)), at("c", "n1", created(7)), at("d", "n1", created(7)),
		at("bad", "n1", created(1), port(0)), at("z", "n1", created(2)), at("other", "n1", created(3)),
	}
	for name, tc := range map[string]struct {
		max        int
		stay, goes []string
	}{
		"no limit":                        {0, []string{"a", "b", "c", "d", "other", "z"}, nil},
		"as many as there are":            {6, []string{"a", "b", "c", "d", "other", "z"}, nil},
		"the youngest goes":               {5, []string{"b", "c", "d", "other", "z"}, []string{"a"}},
		"of one transaction the first ID": {3, []string{"b", "other", "z"}, []string{"a", "c", "d"}},
		"one":                             {1, []string{"z"}, []string{"a", "b", "c", "d", "other"}},
	} {
		t.Run(name, func(t *testing.T) {
			rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			got := list(registrations(entries), admission{max: tc.max})
			var stay, goes []string
			for _, i := range got.instances {
				stay = append(stay, i.ID)
			}
			for _, r := range got.rejected {
				if r.IsBeyondLimit() {
					goes = append(goes, r.ID)
				}
			}
			if diff := cmp.Diff(tc.stay, stay); diff != "" {
				t.Errorf("used (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.goes, goes); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
			if n := len(got.rejected) - len(goes); n != 1 {
				t.Errorf("%d are left out for something else, want the one without a port, which counts for nothing", n)
			}
		})
	}
}

func TestLost(t *testing.T) {
	a, b := good("a", "n"), good("b", "n")
	tests := map[string]struct {
		before, after []catalog.Instance
		want          bool
	}{
		"nothing from nothing": {nil, nil, false},
		"one more":             {[]catalog.Instance{a}, []catalog.Instance{a, b}, false},
		"one less":             {[]catalog.Instance{a, b}, []catalog.Instance{b}, true},
		"one for another":      {[]catalog.Instance{a}, []catalog.Instance{b}, true},
		"all":                  {[]catalog.Instance{a}, nil, true},
		"another weight":       {[]catalog.Instance{a}, []catalog.Instance{good("a", "n", func(i *catalog.Instance) { i.Weight = 9 })}, false},
	}
	for name, tc := range tests {
		if got := lost(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: lost = %v, want %v", name, got, tc.want)
		}
	}
}

// HAProxy connects to an agent port again and again, and what answers there may be
// the load balancer itself.
func TestInstance_AgentPortAtOwnListener_IsIgnored(t *testing.T) {
	own := admission{Addresses: Addresses{Own: []Listener{{Addr: netip.MustParseAddr("10.0.0.1"), First: 9600, Last: 9600, What: "api.address"}}}}
	for port, want := range map[string]int{"9600": 0, "9601": 9601} {
		e := entry{}
		e.Node.Node, e.Service.ID, e.Service.Address, e.Service.Port = "n1", "a", "10.0.0.1", 80
		e.Service.Meta = map[string]string{"pointsman-agent-port": port}
		inst, remark, err := newRegistration(&e, nil).admit(own)
		if again, _, _ := instance(e, "", own); again.AgentPort != inst.AgentPort {
			t.Errorf("port %s: got %d one way, %d the other", port, inst.AgentPort, again.AgentPort)
		}
		if err != nil || inst.AgentPort != want || (remark == nil) != (want != 0) {
			t.Errorf("port %s: got agent port %d, remark %v, %v; want %d", port, inst.AgentPort, remark, err, want)
		}
	}
}

// An operator reads why Consul calls an instance critical. Its check's name and output are
// what anyone can have written.
func TestList_CheckNotPassing_OutputIsKeptInOneLine(t *testing.T) {
	failing := func(all ...check) func(*entry) { return func(e *entry) { e.Checks = all } }
	long := strings.Repeat("a", 5000)
	for name, c := range map[string]struct {
		checks []check
		want   string
	}{
		"all pass":        {[]check{{Status: "passing", Name: "http", Output: "200 OK"}}, ""},
		"critical":        {[]check{{Status: "passing", Name: "disk"}, {Status: "critical", Name: "http", Output: "connection refused\n"}}, "http: connection refused"},
		"the worst":       {[]check{{Status: "warning", Name: "disk", Output: "80 %"}, {Status: "critical", Name: "http", Output: "503"}}, "http: 503"},
		"the first worst": {[]check{{Status: "warning", Name: "disk", Output: "80 %"}, {Status: "warning", Name: "http", Output: "slow"}}, "disk: 80 %"},
		"no output":       {[]check{{Status: "critical", Name: "ttl"}}, "ttl"},
		"no name":         {[]check{{CheckID: "service:a", Status: "critical", Output: "gone"}}, "service:a: gone"},
		"maintenance":     {[]check{{CheckID: "_service_maintenance:a", Status: "critical", Name: "Service Maintenance Mode", Notes: "by ann"}}, "Service Maintenance Mode: by ann"},
		"hostile":         {[]check{{Status: "critical", Name: "a\x1b[2J", Output: "<img>\r\nHTTP/1.1 200"}}, "a\uFFFD[2J: <img> HTTP/1.1 200"},
		"long":            {[]check{{Status: "critical", Name: long, Output: long}}, long[:57] + "…: " + long[:237] + "…"},
	} {
		got := list(registrations([]entry{at("b", "n", failing(c.checks...)), at("a", "n"), at("c", "n", failing(check{Status: "critical", Name: "x"}))}), admission{})
		want := []catalog.CheckOutput{{ID: "b", Node: "n", Text: c.want}, {ID: "c", Node: "n", Text: "x"}}
		if c.want == "" {
			want = want[1:]
		}
		if diff := cmp.Diff(want, got.outputs); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
