package route

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Services that come one after the other, each without an answer, hold up no route for longer.
func TestPace_ServicesComeWithoutEnd_RoutesWaitForABoundedTime(t *testing.T) {
	p, at := Pace{}, time.Unix(43200, 0)
	one := func(service string, after time.Duration) bool {
		at = at.Add(after)
		settled, again := p.Settled([]Candidate{{Service: "known", Known: true}, {Service: service}}, true, at)
		if again <= 0 || !settled && again > SettleTime {
			t.Errorf("%s: again in %s", service, again)
		}
		return settled
	}
	for i := range 4 {
		if one(fmt.Sprintf("s%d", i), time.Second) {
			t.Fatalf("settled at once, with service %d", i)
		}
	}
	if !one("s5", 2*time.Second) {
		t.Error("not settled after the time for one answer")
	}
	if !one("s6", time.Second) {
		t.Error("the next service holds up the routes again")
	}
	if settled, _ := p.Settled([]Candidate{{Service: "known", Known: true}}, true, at); !settled {
		t.Error("not settled with all answers")
	}
	if one("s7", time.Second) {
		t.Error("the first answer about a service is not awaited")
	}
}

// Other services and owners are waited for; another route of an owner, and one that goes, is
// not.
func TestPace_Gathers_OtherOwnersAndServices(t *testing.T) {
	rules := Rules{Frontends: []FrontendRules{{Name: "web"}, {Name: "intern"}}}
	a, b := FoundService{Name: "a"}, FoundService{Name: "b"}
	found := func(routes ...*FoundRoute) Found {
		return Found{Services: []FoundService{a}, Routes: routes}
	}
	of := func(frontend, host, service string) *FoundRoute {
		return &FoundRoute{Frontend: frontend, Host: host, Path: "/x", Service: service}
	}
	stripped := of("web", "2.test", "a")
	stripped.Strip = 1
	before := found(of("web", "1.test", "a"), of("web", "2.test", "a"), of("intern", "1.test", "a"))
	now := time.Unix(43200, 0)
	for name, c := range map[string]struct {
		now  Found
		want time.Duration
	}{
		"the same":                {before, 0},
		"stripped":                {found(before.Routes[0], stripped, before.Routes[2]), 0},
		"the first goes":          {found(before.Routes[1:]...), 0},
		"the last goes":           {found(before.Routes[:2]...), 0},
		"all go":                  {found(), 0},
		"another owner":           {found(before.Routes[0], of("web", "2.test", "b"), before.Routes[2]), GatherTime},
		"a new one at the front":  {found(append([]*FoundRoute{of("web", "0.test", "a")}, before.Routes...)...), GatherTime},
		"a new one at the end":    {found(append(slices.Clone(before.Routes), of("intern", "2.test", "a"))...), GatherTime},
		"one goes, another comes": {found(before.Routes[1], before.Routes[2], of("intern", "3.test", "a")), GatherTime},
		"another service":         {Found{Services: []FoundService{a, b}, Routes: before.Routes}, GatherTime},
	} {
		p := Pace{changed: now.Add(-time.Hour)}
		if got := p.Gathers(rules, c.now, before, now); got != c.want {
			t.Errorf("%s: waits %s, want %s", name, got, c.want)
		}
		if got := p.Gathers(rules, c.now, before, now.Add(GatherTime)); got != 0 || !p.other.IsZero() {
			t.Errorf("%s: waits %s after %s", name, got, GatherTime)
		}
	}
	p := Pace{changed: now}
	two := Found{Services: []FoundService{a, b}}
	if got := p.Gathers(rules, two, found(), now.Add(200*time.Millisecond)); got != 800*time.Millisecond {
		t.Errorf("another service soon after one waits %s", got)
	}
	if p.Gathers(rules, found(), found(), now); !p.other.IsZero() {
		t.Error("a service that is not there any more is waited for")
	}
}
