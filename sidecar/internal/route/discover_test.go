package route_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

var noon = time.Unix(43200, 0)

// discoverRules allow every host to services named svc-…, a.test only to svc-a and own.
func discoverRules() route.Rules {
	return route.Rules{
		Frontends: []route.FrontendRules{{
			Name: "web", TagPrefix: "route=", Meta: "routes", Fabio: true, Settings: map[string]bool{"set.test/": true},
			Allow: []route.Allow{{Host: "*", Services: "*"}, {Host: "a.test", Services: "svc-a"}, {Host: "a.test", Services: "own"}},
		}},
		Profiles:    []route.ProfileRules{{Name: "default", Services: []string{"*"}}, {Name: "slow", Services: []string{"svc-*"}}, {Name: "other", Services: []string{"svc-b"}}},
		ProfileMeta: "profile", Own: map[string]string{"own": "", "raw": "is in mode tcp in the settings"},
		Refuse: func(s string) error {
			if s == "taken" {
				return errors.New("has the name of something else")
			}
			return nil
		},
		Grace: time.Minute, MaxServices: 3, MaxRoutes: 4,
	}
}

// says is a candidate whose instances say texts: a tag, or KEY:VALUE of meta.
func says(service string, since uint64, texts ...string) route.Candidate {
	c := route.Candidate{Service: service, Known: true}
	for _, text := range texts {
		claim := route.Claim{Text: text, Since: since}
		if key, value, isMeta := strings.Cut(text, ":"); isMeta && !strings.Contains(key, "-") {
			claim.Meta, claim.Text = key, value
		}
		c.Claims = append(c.Claims, claim)
	}
	return c
}

// shown is what was found, in short.
func shown(f route.Found) (out []string) {
	for _, s := range f.Services {
		out = append(out, strings.TrimSpace("service "+s.Name+" "+s.Profile))
	}
	for _, r := range f.Routes {
		text := fmt.Sprintf("%s → %s by %s", r.Route("").Key(), r.Service, r.Source)
		if r.Strip > 0 {
			text += fmt.Sprintf(" strip %d", r.Strip)
		}
		if !r.Unclaimed.IsZero() {
			text += " unclaimed"
		}
		out = append(out, text)
	}
	return out
}

func TestDiscover_EachClaim_IsARouteOrAProblem(t *testing.T) {
	for name, c := range map[string]struct {
		says     []route.Candidate
		want     []string
		problems []string
	}{
		"a tag":                             {[]route.Candidate{says("svc-a", 1, "route=a.test/x strip")}, []string{"service svc-a", "a.test/x/ → svc-a by tag strip 1"}, nil},
		"fabio's tag":                       {[]route.Candidate{says("svc-a", 1, "urlprefix-a.test/x strip=/x")}, []string{"service svc-a", "a.test/x/ → svc-a by fabio strip 1"}, nil},
		"meta with two":                     {[]route.Candidate{says("svc-a", 1, "routes:a.test; b.test/y strip;")}, []string{"service svc-a", "a.test/ → svc-a by meta", "b.test/y/ → svc-a by meta strip 1"}, nil},
		"other tags and meta":               {[]route.Candidate{says("svc-a", 1, "v1", "routes=a.test", "note:a.test")}, nil, nil},
		"no route":                          {[]route.Candidate{says("svc-a", 1, "route=(a|b).test\x1b")}, nil, []string{`svc-a "route=(a|b).test\x1b"`}},
		"of fabio's, refused":               {[]route.Candidate{says("svc-a", 1, "urlprefix-:80 proto=tcp")}, nil, []string{"a route by port is not supported"}},
		"another's host":                    {[]route.Candidate{says("svc-b", 1, "route=a.test/longer/path")}, nil, []string{"svc-b a.test/longer/path  the frontend's allow"}},
		"one of the settings":               {[]route.Candidate{says("svc-a", 1, "route=set.test")}, nil, []string{"svc-a set.test/ settings"}},
		"a service of the settings":         {[]route.Candidate{says("own", 1, "route=a.test")}, []string{"a.test/ → own by tag"}, nil},
		"one of the settings in mode tcp":   {[]route.Candidate{says("raw", 1, "route=b.test")}, nil, []string{"raw b.test/  the service is in mode tcp"}},
		"a name that cannot be a backend's": {[]route.Candidate{says("taken", 1, "route=b.test")}, nil, []string{"taken b.test/  the service has the name of something else"}},
		"two services, the older has it":    {[]route.Candidate{says("svc-a", 5, "route=b.test"), says("svc-b", 4, "route=b.test")}, []string{"service svc-b", "b.test/ → svc-b by tag"}, []string{"svc-a b.test/ svc-b"}},
		"two of one age, by name":           {[]route.Candidate{says("svc-b", 5, "route=b.test"), says("svc-a", 5, "route=b.test")}, []string{"service svc-a", "b.test/ → svc-a by tag"}, []string{"svc-b b.test/ svc-a"}},
		"two strips of one service":         {[]route.Candidate{says("svc-a", 1, "route=b.test/x", "route=b.test/x strip")}, []string{"service svc-a", "b.test/x/ → svc-a by tag"}, []string{"another strip"}},
		"too many routes":                   {[]route.Candidate{says("svc-a", 1, "route=5.test", "route=4.test", "route=3.test", "route=2.test", "route=1.test", "route=1.test")}, []string{"service svc-a", "1.test/ → svc-a by tag", "2.test/ → svc-a by tag", "3.test/ → svc-a by tag", "4.test/ → svc-a by tag"}, []string{"more than 4 routes"}},
		"a profile":                         {[]route.Candidate{says("svc-a", 1, "route=b.test", "profile:slow")}, []string{"service svc-a slow", "b.test/ → svc-a by tag"}, nil},
		"a profile that it may not choose":  {[]route.Candidate{says("svc-a", 1, "route=b.test", "profile:other")}, []string{"service svc-a", "b.test/ → svc-a by tag"}, []string{"no profile"}},
		"a profile that is none":            {[]route.Candidate{says("svc-a", 1, "route=b.test", "profile:x\ny")}, []string{"service svc-a", "b.test/ → svc-a by tag"}, []string{`"x\ny"`}},
		"not answered yet":                  {[]route.Candidate{{Service: "svc-a"}}, nil, nil},
	} {
		found, problems := route.Discover(discoverRules(), noon, true, route.Found{}, c.says)
		if diff := cmp.Diff(c.want, shown(found)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if len(problems) != len(c.problems) {
			t.Errorf("%s: problems %+v, want %q", name, problems, c.problems)
			continue
		}
		for i, p := range problems {
			if text := fmt.Sprintf("%s %s %s %s", p.Service, p.Claim, p.Owner, p.Reason); !strings.Contains(text, c.problems[i]) {
				t.Errorf("%s: problem %q, want %q", name, text, c.problems[i])
			}
		}
	}
}

// A history of one route: each step is what services say then.
func TestDiscover_OverTime_OwnerStaysWhileItClaims(t *testing.T) {
	a, b := says("svc-a", 5, "route=b.test"), says("svc-b", 1, "route=b.test")
	silentA, silentB := says("svc-a", 5), says("svc-b", 1)
	found, at := route.Found{}, noon
	for i, step := range []struct {
		after   time.Duration
		waiting bool // for an answer about another
		says    []route.Candidate
		want    []string
	}{
		{says: []route.Candidate{a}, want: []string{"service svc-a", "b.test/ → svc-a by tag"}},
		{says: []route.Candidate{a, b}, want: []string{"service svc-a", "b.test/ → svc-a by tag"}}, // although b is older
		{says: []route.Candidate{{Service: "svc-a"}, b}, want: []string{"service svc-a", "b.test/ → svc-a by tag"}},
		{waiting: true, says: []route.Candidate{{Service: "svc-a"}}, want: []string{"service svc-a", "b.test/ → svc-a by tag"}},
		{says: []route.Candidate{says("svc-a", 5, "route=b.test strip", "route=b.test"), silentB}, want: []string{"service svc-a", "b.test/ → svc-a by tag"}},
		{says: []route.Candidate{silentA, b}, want: []string{"service svc-a", "service svc-b", "b.test/ → svc-b by tag"}}, // at once
		{after: 59 * time.Second, says: []route.Candidate{silentA, silentB}, want: []string{"service svc-a", "service svc-b", "b.test/ → svc-b by tag unclaimed"}},
		{after: 59 * time.Second, says: []route.Candidate{silentA, silentB}, want: []string{"service svc-b", "b.test/ → svc-b by tag unclaimed"}},
		{says: []route.Candidate{silentA, b}, want: []string{"service svc-b", "b.test/ → svc-b by tag"}}, // it is back
		{says: []route.Candidate{silentA, silentB}, want: []string{"service svc-b", "b.test/ → svc-b by tag unclaimed"}},
		{after: time.Minute, says: []route.Candidate{silentA, silentB}, want: []string{"service svc-b"}},
		{waiting: true, says: []route.Candidate{a, silentB}, want: []string{"service svc-b"}}, // a new route waits
		{after: time.Minute, says: []route.Candidate{a, silentB}, want: []string{"service svc-a", "b.test/ → svc-a by tag"}},
		{waiting: true, says: []route.Candidate{silentA, b}, want: []string{"service svc-a", "b.test/ → svc-a by tag unclaimed"}}, // so does a new owner
		{after: time.Minute, waiting: true, says: []route.Candidate{silentA, b}, want: []string{"service svc-a", "b.test/ → svc-a by tag unclaimed"}},
		{says: []route.Candidate{silentA, b}, want: []string{"service svc-a", "service svc-b", "b.test/ → svc-b by tag"}},
	} {
		at = at.Add(step.after)
		found, _ = route.Discover(discoverRules(), at, !step.waiting, found, step.says)
		if diff := cmp.Diff(step.want, shown(found)); diff != "" {
			t.Fatalf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

// In a rolling deployment the profile changes once, with the last instance that names it.
// Each change is a reload: one that follows soon waits.
func TestDiscover_ProfileChanges_WithTheLastInstance(t *testing.T) {
	found, at := route.Found{}, noon
	for i, step := range []struct {
		after time.Duration
		says  []string
		want  string
		next  time.Duration // until something changes by itself
	}{
		{says: []string{"profile:slow"}, want: "slow"},
		{says: []string{"profile:default", "profile:slow"}, want: "slow"},
		{says: []string{"profile:default"}, want: "default", next: time.Minute},
		{says: []string{"profile:slow"}, want: "default", next: time.Minute},
		{after: 59 * time.Second, says: []string{"profile:slow"}, want: "default", next: time.Second},
		{after: time.Second, says: []string{"profile:slow"}, want: "slow", next: time.Minute},
		{after: 30 * time.Second, says: []string{"profile:default"}, want: "slow", next: 30 * time.Second},
		{after: 10 * time.Second, says: []string{"profile:slow"}, want: "slow", next: 20 * time.Second},
		{after: time.Minute, says: []string{"profile:default", "profile:slow"}, want: "slow"},
		{says: nil, want: "", next: time.Minute},
	} {
		at = at.Add(step.after)
		found, _ = route.Discover(discoverRules(), at, true, found, []route.Candidate{says("svc-a", 1, append([]string{"route=b.test"}, step.says...)...)})
		if got := found.Services[0].Profile; got != step.want {
			t.Errorf("step %d: profile %q, want %q", i, got, step.want)
		}
		if next := found.Next(time.Minute); next.IsZero() != (step.next == 0) || !next.IsZero() && next.Sub(at) != step.next {
			t.Errorf("step %d: next at %s, want after %s", i, next, step.next)
		}
	}
	rules := discoverRules()
	rules.Profiles = nil
	says := []route.Candidate{says("svc-a", 1, "route=b.test", "profile:slow")}
	found, _ = route.Discover(discoverRules(), at.Add(time.Hour), true, found, says)
	was := found.Services[0].Profile
	if found, _ = route.Discover(rules, at.Add(time.Hour), true, found, says); was != "slow" || found.Services[0].Profile != "" {
		t.Errorf("profile %q, and %q when the settings have it no more", was, found.Services[0].Profile)
	}
}

// What the settings no longer allow goes at once.
func TestDiscover_SettingsChange_WhatTheyRefuseGoesAtOnce(t *testing.T) {
	found, _ := route.Discover(discoverRules(), noon, true, route.Found{}, []route.Candidate{says("svc-b", 1, "route=b.test", "profile:slow")})
	unknown := []route.Candidate{{Service: "svc-b"}}
	for name, change := range map[string]func(*route.Rules){
		"the host":     func(r *route.Rules) { r.Frontends[0].Allow = r.Frontends[0].Allow[1:] },
		"the frontend": func(r *route.Rules) { r.Frontends = nil },
		"the route":    func(r *route.Rules) { r.Frontends[0].Settings["b.test/"] = true },
		"the name":     func(r *route.Rules) { r.Refuse = func(string) error { return errors.New("no") } },
		"the service":  func(r *route.Rules) { r.Own["svc-b"] = "is in mode tcp" },
	} {
		rules := discoverRules()
		change(&rules)
		if after, _ := route.Discover(rules, noon, false, found, unknown); len(after.Routes) > 0 {
			t.Errorf("%s: %v", name, shown(after))
		}
	}
	rules := discoverRules()
	rules.Profiles = rules.Profiles[:1]
	if after, _ := route.Discover(rules, noon, false, found, unknown); cmp.Diff([]string{"service svc-b", "b.test/ → svc-b by tag"}, shown(after)) != "" {
		t.Errorf("a profile that is gone: %v", shown(after))
	}
}

// A route that leaves the settings stays with the service that it led to, if that claims it:
// another one that was registered earlier may have no backend yet.
func TestDiscover_RouteLeavesTheSettings_ItsServiceStaysTheOwnerIfItClaims(t *testing.T) {
	rules := discoverRules()
	f := &rules.Frontends[0]
	f.Settings, f.Left = nil, map[string]string{"set.test/": "own"}
	early := says("svc-a", 1, "route=set.test")
	for name, c := range map[string]struct {
		said []route.Candidate
		want string
	}{
		"it claims":   {[]route.Candidate{early, says("own", 9, "route=set.test")}, "own"},
		"it does not": {[]route.Candidate{early, says("own", 9)}, "svc-a"},
		"none claims": {[]route.Candidate{says("own", 9)}, ""},
	} {
		found, _ := route.Discover(rules, noon, true, route.Found{}, c.said)
		owner := ""
		for _, r := range found.Routes {
			owner = r.Service
		}
		if owner != c.want {
			t.Errorf("%s: the owner is %q, want %q", name, owner, c.want)
		}
	}
}

func TestDiscover_AnyHistory_IsTheSameForAllAndTakesNothingAwayThatIsClaimed(t *testing.T) {
	text := rapid.SampledFrom([]string{"route=a.test", "route=b.test", "route=b.test/x", "route=b.test/x strip", "urlprefix-c.test/", "routes:b.test;c.test", "route=set.test", "profile:slow", "profile:other", "route=\n"})
	candidate := func(t *rapid.T, service string) route.Candidate {
		c := says(service, rapid.Uint64Range(1, 3).Draw(t, "since"), rapid.SliceOfN(text, 0, 4).Draw(t, "texts")...)
		c.Known = rapid.IntRange(0, 4).Draw(t, "known") > 0
		return c
	}
	rapid.Check(t, func(t *rapid.T) {
		rules, found, at := discoverRules(), route.Found{}, noon
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			var said []route.Candidate
			for _, s := range []string{"svc-a", "svc-b", "own", "taken"} {
				said = append(said, candidate(t, s))
			}
			at = at.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			settled := rapid.Bool().Draw(t, "settled")
			after, _ := route.Discover(rules, at, settled, found, said)
			rand.Shuffle(len(said), func(i, k int) { said[i], said[k] = said[k], said[i] })
			again, _ := route.Discover(rules, at, settled, found, said)
			if diff := cmp.Diff(after, again); diff != "" {
				t.Fatalf("in another order:\n%s", diff)
			}
			owners := map[string]string{}
			services := map[string]bool{"own": true}
			for _, s := range after.Services {
				services[s.Name] = true
			}
			for _, r := range after.Routes {
				owners[r.Route("").Key()] = r.Service
				if !services[r.Service] {
					t.Fatalf("%v has no backend", r)
				}
				if r.Host == "a.test" && r.Service != "svc-a" && r.Service != "own" || r.Host == "set.test" || r.Service == "taken" {
					t.Fatalf("%v is not allowed", r)
				}
			}
			for _, r := range found.Routes { // one that its owner claims stays its own
				for _, c := range said {
					claims := !c.Known
					for _, claim := range c.Claims {
						claims = claims || claim.Meta == "" && strings.Contains(claim.Text, strings.TrimSuffix(r.Route("").Key(), "/"))
					}
					if c.Service == r.Service && claims && owners[r.Route("").Key()] != r.Service && r.Path != "" {
						t.Fatalf("%v was taken away: %v", r, shown(after))
					}
				}
			}
			found = after
		}
	})
}

func TestWatch_Candidates_AreBoundedAndKeepThoseWithRoutes(t *testing.T) {
	rules := discoverRules()
	rules.Frontends[0].Allow = []route.Allow{{Host: "*", Services: "svc-*"}}
	for _, c := range []struct {
		service string
		tags    []string
		want    bool
	}{
		{"svc-a", []string{"v1", "route=b.test"}, true},
		{"svc-a", []string{"urlprefix-"}, true},
		{"other", []string{"route=b.test"}, false},
		{"svc-" + strings.Repeat("a", 200), []string{"route=b.test"}, false},
	} {
		if rules.Frontends[0].Meta = ""; rules.Takes(c.service, c.tags) != c.want {
			t.Errorf("%s with %q: want %v", c.service, c.tags, c.want)
		}
	}
	if rules.Takes("svc-a", []string{"v1"}) {
		t.Error("without a claim it is taken")
	}
	if rules.Frontends[0].Meta = "routes"; !rules.Takes("svc-a", nil) {
		t.Error("meta may claim, and it is not looked at")
	}
	before := route.Found{Services: []route.FoundService{{Name: "svc-z"}}, Routes: []*route.FoundRoute{{Service: "svc-y"}, {Service: "own"}}}
	got, problems := rules.Watch([]string{"svc-c", "svc-b", "own", "taken", "svc-z"}, before)
	if diff := cmp.Diff([]string{"svc-b", "svc-y", "svc-z"}, got); diff != "" || len(problems) != 2 {
		t.Errorf("%v:\n%s", problems, diff)
	}
}

// What HAProxy may still have of a service that has gone is remembered, and a service that
// is back with another profile comes by a reload.
func TestFound_After_RemembersWhatHAProxyMayHave(t *testing.T) {
	now := time.Unix(100_000, 0)
	old, recent := now.Add(-time.Hour), now.Add(-time.Minute)
	for name, c := range map[string]struct{ before, is, want route.Found }{
		"it stays":                     {before: route.Found{Services: found("a")}, is: route.Found{Services: found("a")}, want: route.Found{Services: found("a")}},
		"it goes":                      {before: route.Found{Services: found("a", "b")}, is: route.Found{Services: found("b")}, want: route.Found{Services: found("b"), Gone: []route.FoundService{{Name: "a", Idle: now}}}},
		"it has gone":                  {before: route.Found{Gone: []route.FoundService{{Name: "a", Idle: recent}}}, want: route.Found{Gone: []route.FoundService{{Name: "a", Idle: recent}}}},
		"it has gone long ago":         {before: route.Found{Gone: []route.FoundService{{Name: "a", Idle: old}}}},
		"it has gone, by the file":     {before: route.Found{Gone: found("a")}, want: route.Found{Gone: []route.FoundService{{Name: "a", Idle: now}}}},
		"it is back":                   {before: route.Found{Gone: []route.FoundService{{Name: "a", Idle: recent}}}, is: route.Found{Services: found("a")}, want: route.Found{Services: found("a")}},
		"it is back otherwise":         {before: route.Found{Gone: []route.FoundService{{Name: "a", Profile: "slow", Idle: recent}}}, is: route.Found{Services: found("a")}, want: route.Found{Services: []route.FoundService{{Name: "a", ByReload: true}}}},
		"it goes, and was by a reload": {before: route.Found{Services: []route.FoundService{{Name: "a", ByReload: true}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(all(c.want), all(c.is.After(c.before, now)), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	many := route.Found{}
	for i := range 1000 {
		many.Services = append(many.Services, found(fmt.Sprintf("s%03d", i))...)
	}
	if got := len(route.Found{}.After(many, now).Gone); got != 100 {
		t.Errorf("of 1,000 that have gone, %d are remembered, want 100", got)
	}
}

// all is without the method Equal, which leaves out some.
type all route.Found

func found(names ...string) (out []route.FoundService) {
	for _, n := range names {
		out = append(out, route.FoundService{Name: n})
	}
	return out
}
