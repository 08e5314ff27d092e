package haproxy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// applyCase is steps, what becomes of each, and the servers after them. It is
// run on the real HAProxy and on the fake ones.
type applyCase struct {
	name  string
	steps []plan.Step
	errs  []string // a part of each step's error, "" for none; nil: none at all
	want  []plan.Server
}

// live is a node that the real HAProxy's first check finds alive.
func applyCases(live netip.AddrPort) []applyCase {
	one := plan.Server{Name: "one", Addr: live, Up: true, Weight: 10, ConfigWeight: 10, MaxConn: 5, Checked: true}
	two := plan.Server{Name: "two", Addr: addr("127.0.0.1:9"), Admin: plan.Maint, Weight: 1, ConfigWeight: 1, Checked: true, FileDisabled: true}
	plain := plan.Server{Name: "plain", Addr: addr("127.0.0.3:80"), Up: true, Weight: 1, ConfigWeight: 1, Backup: true, NoCheck: true}
	asked := plan.Server{Name: "asked", Addr: addr("127.0.0.5:80"), Up: true, Weight: 4, ConfigWeight: 4, Agent: plan.AgentOn, AgentPort: 9, NoCheck: true}
	rest := func(changed plan.Server) []plan.Server {
		all := []plan.Server{one, two, plain, asked}
		for i := range all {
			if all[i].Name == changed.Name {
				all[i] = changed
			}
		}
		return all
	}
	with := func(s plan.Server, change func(*plan.Server)) plan.Server {
		change(&s)
		return s
	}
	step := func(k plan.Kind, server string) plan.Step { return plan.Step{Kind: k, Backend: "api", Server: server} }
	to := func(server, a string) plan.Step {
		s := step(plan.SetAddr, server)
		s.Addr = addr(a)
		return s
	}
	quiet := func(k plan.Kind) plan.Step {
		s := step(k, "asked")
		s.Agent = true
		return s
	}
	proved := func(server string) plan.Step {
		s := step(plan.SetReady, server)
		s.Prove = true
		return s
	}
	add := func(server string, change func(*plan.Step)) plan.Step {
		s := step(plan.Add, server)
		s.Addr, s.Weight = addr("127.0.0.4:8080"), 7
		if change != nil {
			change(&s)
		}
		return s
	}
	return []applyCase{
		{"nothing", nil, nil, rest(one)},
		{"drain", []plan.Step{step(plan.SetDrain, "one")}, nil, rest(with(one, func(s *plan.Server) { s.Admin = plan.Drain }))},
		{"maint", []plan.Step{step(plan.SetMaint, "one")}, nil, rest(with(one, func(s *plan.Server) { s.Admin, s.Up = plan.Maint, false }))},
		{
			"drain then maint",
			[]plan.Step{step(plan.SetDrain, "plain"), step(plan.SetMaint, "plain")},
			nil,
			rest(with(plain, func(s *plan.Server) { s.Admin, s.Up = plan.Maint, false })),
		},
		{"drain then ready", []plan.Step{step(plan.SetDrain, "one"), step(plan.SetReady, "one")}, nil, rest(one)},
		{"ready again changes nothing", []plan.Step{step(plan.SetReady, "one")}, nil, rest(one)},
		{"ready to be proved starts down", []plan.Step{proved("two")}, nil, rest(with(two, func(s *plan.Server) { s.Admin = plan.Ready }))},
		{
			"ready without proof is up at once although the file has it disabled",
			[]plan.Step{step(plan.SetReady, "two")},
			nil,
			rest(with(two, func(s *plan.Server) { s.Admin, s.Up = plan.Ready, true })),
		},
		{"weight", []plan.Step{{Kind: plan.SetWeight, Backend: "api", Server: "one", Weight: 256}}, nil, rest(with(one, func(s *plan.Server) { s.Weight = 256 }))},
		{"weight 0", []plan.Step{{Kind: plan.SetWeight, Backend: "api", Server: "one"}}, nil, rest(with(one, func(s *plan.Server) { s.Weight = 0 }))},
		{
			"a percentage is of the configured weight",
			[]plan.Step{{Kind: plan.SetWeight, Backend: "api", Server: "one", Weight: 256}, {Kind: plan.SetWeight, Backend: "api", Server: "one", Weight: 100, Percent: true}},
			nil, rest(one),
		},
		{
			"a static algorithm takes 0 % and 100 %, and no weight",
			[]plan.Step{
				{Kind: plan.SetWeight, Backend: "static", Server: "one", Percent: true},
				{Kind: plan.SetWeight, Backend: "static", Server: "one", Weight: 100, Percent: true},
				{Kind: plan.SetWeight, Backend: "static", Server: "one", Weight: 7},
				{Kind: plan.SetReady, Backend: "static", Server: "one"},
			},
			[]string{"", "", plan.ErrStatic.Error(), ""},
			rest(one),
		},
		{"drain ends the agent", []plan.Step{quiet(plan.SetDrain)}, nil, rest(with(asked, func(s *plan.Server) { s.Admin, s.Agent = plan.Drain, plan.AgentOff }))},
		{
			"maint ends the agent",
			[]plan.Step{quiet(plan.SetMaint)},
			nil, rest(with(asked, func(s *plan.Server) { s.Admin, s.Up, s.Agent = plan.Maint, false, plan.AgentOff })),
		},
		{"a weight ends the agent", []plan.Step{quiet(plan.SetWeight)}, nil, rest(with(asked, func(s *plan.Server) { s.Weight, s.Agent = 0, plan.AgentOff }))},
		{"agent switched off", []plan.Step{step(plan.DisableAgent, "asked")}, nil, rest(with(asked, func(s *plan.Server) { s.Agent = plan.AgentOff }))},
		{"agent switched on again, with the whole weight", []plan.Step{quiet(plan.SetWeight), step(plan.EnableAgent, "asked")}, nil, rest(asked)},
		{"ready switches the agent on", []plan.Step{quiet(plan.SetMaint), quiet(plan.SetReady)}, nil, rest(asked)},
		{
			"agent switched on at another port",
			[]plan.Step{quiet(plan.SetMaint), {Kind: plan.SetReady, Backend: "api", Server: "asked", Agent: true, AgentPort: 8}, {Kind: plan.EnableAgent, Backend: "api", Server: "asked", AgentPort: 7}},
			nil, rest(with(asked, func(s *plan.Server) { s.AgentPort = 7 })),
		},
		{"a port that is none is not sent", []plan.Step{{Kind: plan.EnableAgent, Backend: "api", Server: "asked", AgentPort: 65536}}, []string{"not in 0 to 65535"}, rest(asked)},
		{
			"agent switched on without one",
			[]plan.Step{step(plan.EnableAgent, "plain")},
			[]string{"Agent was not configured"},
			rest(plain),
		},
		{"add with an agent", []plan.Step{add("new", func(s *plan.Step) {
			s.Agent, s.Options = true, "agent-check agent-port 9 agent-inter 1h"
		})}, nil, append(rest(one), plan.Server{Name: "new", Addr: addr("127.0.0.4:8080"), Up: true, Weight: 7, ConfigWeight: 7, Agent: plan.AgentOn, AgentPort: 9, NoCheck: true})},
		{"add with an agent at a port of its own", []plan.Step{add("new", func(s *plan.Step) {
			s.Agent, s.AgentPort, s.Options = true, 7, "agent-check agent-port 9 agent-inter 1h"
		})}, nil, append(rest(one), plan.Server{Name: "new", Addr: addr("127.0.0.4:8080"), Up: true, Weight: 7, ConfigWeight: 7, Agent: plan.AgentOn, AgentPort: 7, NoCheck: true})},
		{"agent switched on beside a check that fails", []plan.Step{add("new", func(s *plan.Step) {
			s.Prove, s.Agent, s.Options = true, true, "check inter 1h agent-check agent-port 9 agent-inter 1h"
		}), {Kind: plan.EnableAgent, Backend: "api", Server: "new", Prove: true}}, nil, append(rest(one), plan.Server{Name: "new", Addr: addr("127.0.0.4:8080"), Weight: 7, ConfigWeight: 7, Agent: plan.AgentOn, AgentPort: 9, Checked: true})},
		{"maxconn", []plan.Step{{Kind: plan.SetMaxConn, Backend: "api", Server: "two", MaxConn: 9}}, nil, rest(with(two, func(s *plan.Server) { s.MaxConn = 9 }))},
		{"maxconn 0 is no limit", []plan.Step{{Kind: plan.SetMaxConn, Backend: "api", Server: "one"}}, nil, rest(with(one, func(s *plan.Server) { s.MaxConn = 0 }))},
		{"address and port", []plan.Step{to("two", "127.0.0.7:8081")}, nil, rest(with(two, func(s *plan.Server) { s.Addr = addr("127.0.0.7:8081") }))},
		{"port only", []plan.Step{to("two", "127.0.0.1:8081")}, nil, rest(with(two, func(s *plan.Server) { s.Addr = addr("127.0.0.1:8081") }))},
		{"address only", []plan.Step{to("two", "127.0.0.7:9")}, nil, rest(with(two, func(s *plan.Server) { s.Addr = addr("127.0.0.7:9") }))},
		{"the same address", []plan.Step{to("two", "127.0.0.1:9")}, nil, rest(two)},
		{"address to IPv6", []plan.Step{to("two", "[::1]:8081")}, nil, rest(with(two, func(s *plan.Server) { s.Addr = addr("[::1]:8081") }))},
		{"IPv6 and back", []plan.Step{to("two", "[2001:db8::1]:8081"), to("two", "127.0.0.7:9")}, nil, rest(with(two, func(s *plan.Server) { s.Addr = addr("127.0.0.7:9") }))},
		{"health switched on", []plan.Step{step(plan.EnableHealth, "one")}, nil, rest(one)},
		{
			"health switched on without a check",
			[]plan.Step{step(plan.EnableHealth, "plain"), step(plan.SetDrain, "one")},
			[]string{"enable health api/plain: unexpected reply", ""},
			rest(with(one, func(s *plan.Server) { s.Admin = plan.Drain })),
		},
		{
			"a server that is not there",
			[]plan.Step{step(plan.SetDrain, "none"), step(plan.SetDrain, "one")},
			[]string{`set server api/none state: unexpected reply: "No such server."`, ""},
			rest(with(one, func(s *plan.Server) { s.Admin = plan.Drain })),
		},
		{
			"a backend that is not there",
			[]plan.Step{{Kind: plan.SetMaint, Backend: "none", Server: "one"}},
			[]string{`set server none/one state: unexpected reply: "No such backend."`},
			rest(one),
		},
		{
			"after a failure nothing more on that server",
			[]plan.Step{step(plan.EnableHealth, "plain"), step(plan.SetMaint, "plain"), step(plan.SetMaint, "one")},
			[]string{"unexpected reply", "not sent: an earlier step on this server failed", ""},
			rest(with(one, func(s *plan.Server) { s.Admin, s.Up = plan.Maint, false })),
		},
		{
			"add",
			[]plan.Step{add("new", nil)},
			nil,
			append(rest(one), plan.Server{Name: "new", Addr: addr("127.0.0.4:8080"), Up: true, Weight: 7, ConfigWeight: 7, NoCheck: true}),
		},
		{"add with everything, to be proved", []plan.Step{add("new", func(s *plan.Step) {
			s.Addr, s.MaxConn, s.Backup, s.Prove, s.Options = addr("[::1]:8080"), 3, true, true, "check inter 1h  fall 3"
		})}, nil, append(rest(one), plan.Server{Name: "new", Addr: addr("[::1]:8080"), Weight: 7, ConfigWeight: 7, MaxConn: 3, Backup: true, Checked: true})},
		{"add one that is there leaves it as it is", []plan.Step{add("two", nil)}, []string{"Already exists"}, rest(two)},
		{
			"add to a backend that is not there",
			[]plan.Step{{Kind: plan.Add, Backend: "none", Server: "x", Addr: addr("127.0.0.1:1")}, step(plan.SetDrain, "one")},
			[]string{"No such backend.", ""},
			rest(with(one, func(s *plan.Server) { s.Admin = plan.Drain })),
		},
		{
			"add with a keyword that dynamic servers do not take",
			[]plan.Step{add("new", func(s *plan.Step) { s.Options = "resolvers x" })},
			[]string{plan.ErrRefused.Error()},
			rest(one),
		},
		{"add with an unknown keyword", []plan.Step{add("new", func(s *plan.Step) { s.Options = "nonsense" })}, []string{plan.ErrRefused.Error()}, rest(one)},
		{"add to a static backend", []plan.Step{{Kind: plan.Add, Backend: "static", Server: "x", Addr: addr("127.0.0.1:1")}}, []string{plan.ErrRefused.Error()}, rest(one)},
		{"delete", []plan.Step{step(plan.Delete, "two")}, nil, []plan.Server{one, plain, asked}},
		{"delete one that is not in maint", []plan.Step{step(plan.Delete, "one")}, []string{"Only servers in maintenance mode can be deleted."}, rest(one)},
		{"delete one that is not there", []plan.Step{step(plan.Delete, "none")}, []string{"del server api/none: unexpected reply"}, rest(one)},
		{
			"delete and others in one call",
			[]plan.Step{step(plan.SetDrain, "one"), step(plan.Delete, "none"), step(plan.Delete, "two"), add("new", nil), step(plan.SetMaint, "one")},
			[]string{"", "No such server.", "", "", ""},
			[]plan.Server{with(one, func(s *plan.Server) { s.Admin, s.Up = plan.Maint, false }), {Name: "new", Addr: addr("127.0.0.4:8080"), Up: true, Weight: 7, ConfigWeight: 7, NoCheck: true}, plain, asked},
		},
		{
			"an option that would be another command is not sent",
			[]plan.Step{add("new", func(s *plan.Step) { s.Options = "check; set server api/one state maint" })},
			[]string{"cannot be sent"},
			rest(one),
		},
		{
			"a name that would be another line is not sent",
			[]plan.Step{{Kind: plan.SetMaint, Backend: "api", Server: "one\nshutdown sessions server api/one"}, step(plan.SetMaint, "one;x")},
			[]string{"is not legal in a name", "is not legal in a name"},
			rest(one),
		},
		{"an address without a port is not sent", []plan.Step{to("two", "127.0.0.7:0")}, []string{"not an address with a port"}, rest(one)},
		{"a weight beyond HAProxy's is not sent", []plan.Step{{Kind: plan.SetWeight, Backend: "api", Server: "one", Weight: 257}}, []string{"not in 0 to 256"}, rest(one)},
	}
}

func TestApplyDoesEveryStepAndTellsWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	live := haproxytest.StartNode(t, "one").Addr()
	backends := []backendSpec{
		{name: "api", servers: []serverSpec{
			{name: "one", addr: live, weight: 10, maxConn: 5, check: true},
			{name: "two", addr: addr("127.0.0.1:9"), weight: 1, disabled: true, check: true},
			{name: "plain", addr: addr("127.0.0.3:80"), weight: 1, backup: true},
			{name: "asked", addr: addr("127.0.0.5:80"), weight: 4, agent: true},
		}},
		{name: "static", static: true, servers: []serverSpec{{name: "one", addr: addr("127.0.0.1:9"), weight: 1}}},
	}
	for _, c := range applyCases(live) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onEach(t, backends, func(t *testing.T, s subject) {
				errs := s.client.Apply(t.Context(), c.steps)
				if len(errs) != len(c.steps) {
					t.Fatalf("got %d errors for %d steps", len(errs), len(c.steps))
				}
				for i, err := range errs {
					want := ""
					if c.errs != nil {
						want = c.errs[i]
					}
					if got := errText(err); (want == "") != (err == nil) || !strings.Contains(got, want) {
						t.Errorf("step %d %s %s: got %q, want %q", i, c.steps[i].Kind, c.steps[i].Server, got, want)
					}
					if want == plan.ErrRefused.Error() && !errors.Is(err, plan.ErrRefused) {
						t.Errorf("step %d: %v does not wrap plan.ErrRefused", i, err)
					}
				}
				want := c.want
				s.expect(t, "api", inOrder(s.observe(t, "api"), want))
			})
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// inOrder sorts the wanted servers by the numbers that HAProxy gave them: a
// deleted server's number is given again.
func inOrder(o plan.Observed, want []plan.Server) []plan.Server {
	sorted := make([]plan.Server, 0, len(want))
	for _, s := range o.Backends["api"].Servers {
		for _, w := range want {
			if w.Name == s.Name {
				sorted = append(sorted, w)
			}
		}
	}
	for _, w := range want {
		if !contains(sorted, w.Name) {
			sorted = append(sorted, w)
		}
	}
	return sorted
}

func contains(servers []plan.Server, name string) bool {
	for _, s := range servers {
		if s.Name == name {
			return true
		}
	}
	return false
}

// Between a look and a step HAProxy may be reloaded, and a slot of that name has
// another address then. Where servers have slots (2.6), it becomes ready for the
// address that the step names.
func TestApply_SlotBecomesReady_ForTheAddressOfTheStep(t *testing.T) {
	t.Parallel()
	backends := []backendSpec{{name: "api", servers: []serverSpec{{name: "slot-1", addr: addr("127.0.0.1:9"), weight: 1, disabled: true}}}}
	onEach(t, backends, func(t *testing.T, s subject) {
		want := plan.Server{Name: "slot-1", Addr: addr("127.0.0.1:9"), Up: true, Weight: 1, ConfigWeight: 1, FileDisabled: true, NoCheck: true}
		if !s.dynamic {
			want.Addr = addr("127.0.0.8:80")
		}
		step := plan.Step{Kind: plan.SetReady, Backend: "api", Server: "slot-1", Addr: addr("127.0.0.8:80")}
		if err := s.client.Apply(t.Context(), []plan.Step{step})[0]; err != nil {
			t.Fatal(err)
		}
		s.expect(t, "api", []plan.Server{want})
	})
}
