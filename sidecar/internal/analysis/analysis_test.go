package analysis

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

var rollouts = flag.Int("rollouts", 2000, "how many rollouts of each kind are simulated")

// site is a service in simulated traffic: servers behind two load balancers, whose
// counters are as HAProxy's.
type site struct {
	random  *rand.Rand
	servers []*simulated
}

type simulated struct {
	Reading
	failing float64 // its rate
	millis  float64 // its mean response time
	mean    float64 // HAProxy's, of its last requests
}

// haproxyWindow is over how many requests HAProxy's means go (TIME_STATS_SAMPLES).
const haproxyWindow = 512

func newSite(random *rand.Rand, stable, canary int) *site {
	s := &site{random: random}
	for i := range stable + canary {
		for _, lb := range []string{"lb0", "lb1"} {
			s.servers = append(s.servers, &simulated{Reading: Reading{
				LoadBalancer: lb, Instance: fmt.Sprint(i), IsCanary: i >= stable, IsUp: true,
			}})
		}
	}
	return s
}

func (s *site) each(canary bool, do func(*simulated)) {
	for _, x := range s.servers {
		if x.IsCanary == canary {
			do(x)
		}
	}
}

// serve sends requests to the servers of one version.
func (s *site) serve(canary bool, requests int) {
	n := 0
	s.each(canary, func(*simulated) { n++ })
	s.each(canary, func(x *simulated) { s.take(x, requests/n) })
}

func (s *site) take(x *simulated, requests int) {
	if requests == 0 {
		return
	}
	x.Errors += uint64(s.failures(requests, x.failing))
	// The mean of this many exponential response times, and HAProxy's moving one.
	own := x.millis * (1 + s.random.NormFloat64()/math.Sqrt(float64(requests)))
	weight, left := 1.0, requests // of the mean before: by count in the first window, then it fades
	if room := haproxyWindow - int(x.Requests); room > 0 {
		first := min(room, requests)
		weight, left = float64(x.Requests)/float64(int(x.Requests)+first), requests-first
	}
	weight *= math.Pow(1-1.0/haproxyWindow, float64(left))
	x.mean = weight*x.mean + (1-weight)*own
	x.ResponseTime = time.Duration(max(x.mean, 0)) * time.Millisecond // whole ones
	x.Requests += uint64(requests)
}

// failures draws how many of n requests fail, by the gaps between them.
func (s *site) failures(n int, p float64) int {
	if p = min(p, 0.9); p < 1e-9 {
		return 0
	}
	failed := 0
	for at := 0.0; ; failed++ {
		if at += math.Floor(math.Log(1-s.random.Float64())/math.Log(1-p)) + 1; at > float64(n) {
			return failed
		}
	}
}

func (s *site) readings() []Reading {
	all := make([]Reading, len(s.servers))
	for i, x := range s.servers {
		all[i] = x.Reading
	}
	return all
}

// reload has one load balancer begin with a new worker.
func (s *site) reload(lb string) {
	for _, x := range s.servers {
		if x.LoadBalancer == lb {
			x.Counters, x.mean = Counters{}, 0
		}
	}
}

// rollout simulates one: steps with a share of the traffic each, at least 2,000
// requests for the canary in each, looked at five times. A step that has not passed by
// then is looked at for as long again, and then the rollout is paused.
func rollout(seed uint64, fastest, slowest, errors, slowness float64) Outcome {
	random := rand.New(rand.NewPCG(seed, 17))
	s := newSite(random, 2+random.IntN(8), 1+random.IntN(2))
	base, millis := 0.05*random.Float64()*random.Float64(), fastest+(slowest-fastest)*random.Float64()
	s.each(false, func(x *simulated) { x.failing, x.millis = base, millis })
	s.each(true, func(x *simulated) { x.failing, x.millis = base+errors, millis*slowness })

	a := New(Default)
	s.serve(false, 20000)
	a.Look(s.readings())
	for _, share := range []float64{0.05, 0.25, 0.5} {
		var v Verdict
		for look := 0; look < 10 && v.Outcome != Passed; look++ {
			if random.IntN(10) == 0 {
				s.reload("lb0")
			}
			outage := 0.0 // behind both versions
			if random.IntN(10) == 0 {
				outage = random.Float64() / 4
			}
			for _, x := range s.servers {
				x.failing += outage
			}
			slow := 0.0 // both versions, by milliseconds, for a part of the time between two looks
			if random.IntN(10) == 0 {
				slow = 300 * random.Float64()
			}
			canary, part, isAtFirst := 400+random.IntN(400), random.Float64(), random.IntN(2) == 0
			for i, part := range []float64{part, 1 - part} {
				added := slow
				if isAtFirst != (i == 0) {
					added = 0
				}
				for _, x := range s.servers {
					x.millis += added
				}
				s.serve(true, int(part*float64(canary)))
				s.serve(false, int(part*float64(canary)*(1-share)/share))
				for _, x := range s.servers {
					x.millis -= added
				}
			}
			for _, x := range s.servers {
				x.failing -= outage
			}
			if v = a.Look(s.readings()); v.Outcome == Failed {
				return Failed
			}
		}
		if v.Outcome != Passed {
			return Waiting
		}
		a.NextStep()
	}
	return Passed
}

// The promise: of the good ones under 1 % are aborted, of the bad ones under 1 % are
// promoted.
func TestAnalysis_ManyRollouts_FewAreJudgedWrong(t *testing.T) {
	n := *rollouts
	if testing.Short() {
		n = min(n, 1000)
	}
	for _, kind := range []struct {
		name             string
		fastest, slowest float64 // of the stable version, in milliseconds
		errors, slowness float64
		wrong            Outcome
	}{
		{"as good", 10, 210, 0, 1, Failed},
		{"as good, in few milliseconds", 0.5, 10, 0, 1, Failed},
		{"3 points more errors", 10, 210, 0.03, 1, Passed},
		{"twice as slow", 10, 210, 0, 2, Passed},
		{"twice as slow, in few milliseconds", 5, 10, 0, 2, Passed},
		{"crashing on one request of five", 10, 210, 0.2, 1, Passed},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			outcomes := map[Outcome]int{}
			var parts sync.WaitGroup
			for part := range 4 {
				parts.Go(func() {
					for seed := part; seed < n; seed += 4 {
						o := rollout(uint64(seed), kind.fastest, kind.slowest, kind.errors, kind.slowness)
						mu.Lock()
						outcomes[o]++
						mu.Unlock()
					}
				})
			}
			parts.Wait()
			t.Logf("of %d rollouts: passed %d, failed %d, paused as not known %d", n, outcomes[Passed], outcomes[Failed], outcomes[Waiting])
			if got := outcomes[kind.wrong]; got*100 >= n {
				t.Errorf("%d of %d were judged wrong, want less than 1 %%", got, n)
			}
			if got := outcomes[Waiting]; got*20 >= n {
				t.Errorf("%d of %d were not judged, want less than 5 %%", got, n)
			}
		})
	}
}

// Of 2,000 requests a second at 10 servers behind two load balancers the canary has a
// twentieth. Its servers' means at HAProxy forget 19 times slower that all were slow.
func TestAnalysis_BothSlowForTenSeconds_IsNoFailure(t *testing.T) {
	for seed := range uint64(100) {
		s := newSite(rand.New(rand.NewPCG(seed, 17)), 5, 5)
		each := func(millis float64) {
			for _, x := range s.servers {
				x.millis = millis
			}
		}
		each(20)
		a := New(Default)
		for look := range 30 {
			if each(20); look == 5 {
				each(220)
			}
			s.serve(false, 19000)
			s.serve(true, 1000)
			if v := a.Look(s.readings()); v.Outcome == Failed {
				t.Fatalf("seed %d, look %d: %s", seed, look, v.Reason)
			}
		}
	}
}

// HAProxy's means are whole milliseconds: what a server with few requests has taken is
// known badly, and that matters where all are fast.
func TestTimes_ManyServersWithFewRequests_AreNotEnoughWhereFast(t *testing.T) {
	for _, c := range []struct {
		servers  int
		requests uint64 // of each
		millis   time.Duration
		want     bool
	}{
		{1, 299, 50, false},
		{1, 400, 5, true},
		{40, 10, 5, false},
		{40, 10, 50, true},
		{40, 50, 5, true},
	} {
		var is times
		before, now := Counters{Requests: 1000, ResponseTime: c.millis * time.Millisecond}, Counters{Requests: 1000 + c.requests, ResponseTime: c.millis * time.Millisecond}
		for range c.servers {
			is.add(true, before, now)
			is.add(false, Counters{}, now)
		}
		if got := is.areEnough(); got != c.want {
			t.Errorf("%+v: %v, off by %.2f ms", c, got, is.canary.rounding())
		}
	}
}

// A slot of HAProxy 2.6 goes on counting when it gets another instance: what it has
// counted of others is not the canary's, also when an instance comes back in it.
func TestAnalysis_AnotherSlot_ItsPastIsNotTheCanarys(t *testing.T) {
	reading := func(server, instance string, canary bool, requests, errors uint64) Reading {
		return Reading{LoadBalancer: "lb0", Server: server, Instance: instance, IsCanary: canary, IsUp: true, Counters: Counters{Requests: requests, Errors: errors}}
	}
	for _, c := range []struct {
		name         string
		before, then Reading
	}{
		{"an instance in another slot", reading("slot-7", "api-7", true, 100, 0), reading("slot-9", "api-7", true, 50_000, 9_000)},
		{"an instance of another version", reading("slot-9", "api-7", false, 100, 0), reading("slot-9", "api-7", true, 50_000, 9_000)},
	} {
		a := New(Default)
		a.Look([]Reading{reading("slot-1", "api-1", false, 0, 0), c.before})
		a.Look([]Reading{reading("slot-1", "api-1", false, 10_000, 10), c.before})
		for look := range uint64(3) {
			if v := a.Look([]Reading{reading("slot-1", "api-1", false, 20_000+look*10_000, 20+look*10), c.then}); v.Outcome != Waiting {
				t.Errorf("%s: %s, %s", c.name, v.Outcome, v.Reason)
			}
		}
	}
}

func TestAnalysis_Looks(t *testing.T) {
	reading := func(canary, up bool, requests, errors uint64, mean time.Duration) Reading {
		name := "api-old"
		if canary {
			name = "api-new"
		}
		return Reading{LoadBalancer: "lb0", Instance: name, IsCanary: canary, IsUp: up, Counters: Counters{Requests: requests, Errors: errors, ResponseTime: mean}}
	}
	at := func(lb string, up bool) Reading {
		return Reading{LoadBalancer: lb, Instance: "api-new", IsCanary: true, IsUp: up}
	}
	retried := func(r Reading, retries uint64) Reading {
		r.Retries = retries
		return r
	}
	const ms = time.Millisecond
	// grow gives looks at both versions. From one to the next each has had requests. Of the
	// canary's some have failed, and some were tried again; of the stable version's a hundredth.
	grow := func(looks int, stable, canary, errors, retries uint64) (all [][]Reading) {
		for look := range uint64(looks) {
			all = append(all, []Reading{
				retried(reading(false, true, look*stable, look*stable/100, ms), look*stable/100),
				retried(reading(true, true, look*canary, look*errors, ms), look*retries),
			})
		}
		return all
	}
	for _, c := range []struct {
		name   string
		looks  [][]Reading
		want   Outcome
		reason string // it begins so
		least  uint64 // Rules.MinRequests; 0: the default
	}{
		{name: "only one look", looks: [][]Reading{{reading(false, true, 1e6, 0, ms), reading(true, true, 1e6, 1e6, ms)}}, want: Waiting},
		{name: "what was counted before is left out", looks: [][]Reading{
			{reading(false, true, 1e6, 0, ms), reading(true, true, 1000, 1000, ms)},
			{reading(false, true, 2e6, 0, ms), reading(true, true, 1000, 1000, ms)},
			{reading(false, true, 3e6, 0, ms), reading(true, true, 1000, 1000, ms)},
		}, want: Waiting},
		{name: "many errors", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1000, 1, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 2000, 2, ms), reading(true, true, 100, 20, ms)},
		}, want: Failed},
		{name: "errors of both", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1000, 1, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 2000, 200, ms), reading(true, true, 100, 20, ms)},
		}, want: Waiting},
		{name: "a reload is no negative rate", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1000, 900, ms), reading(true, true, 500, 450, ms)},
			{reading(false, true, 10, 9, ms), reading(true, true, 5, 4, ms)},
		}, want: Waiting},
		{name: "down once", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, false, 0, 0, ms)},
			{reading(false, true, 1000, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 2000, 0, ms), reading(true, false, 0, 0, ms)},
		}, want: Waiting},
		{name: "down at three looks", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, false, 0, 0, ms)},
			{reading(false, true, 1000, 0, ms), reading(true, false, 0, 0, ms)},
			{reading(false, true, 2000, 0, ms), reading(true, false, 0, 0, ms)},
		}, want: Failed},
		{name: "a canary that crashes again and again", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1000, 0, ms), reading(true, false, 100, 0, ms)},
			{reading(false, true, 2000, 0, ms), reading(true, true, 200, 0, ms)},
			{reading(false, true, 3000, 0, ms), reading(true, false, 300, 0, ms)},
			{reading(false, true, 4000, 0, ms), reading(true, true, 400, 0, ms)},
			{reading(false, true, 5000, 0, ms), reading(true, false, 500, 0, ms)},
		}, want: Failed},
		{name: "twice is no proof", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1000, 0, ms), reading(true, false, 100, 0, ms)},
			{reading(false, true, 2000, 0, ms), reading(true, true, 200, 0, ms)},
			{reading(false, true, 3000, 0, ms), reading(true, false, 300, 0, ms)},
			{reading(false, true, 4000, 0, ms), reading(true, true, 400, 0, ms)},
		}, want: Waiting},
		{name: "the stable version goes down, too", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, false, 1000, 0, ms), reading(true, false, 100, 0, ms)},
			{reading(false, true, 2000, 0, ms), reading(true, true, 200, 0, ms)},
			{reading(false, false, 3000, 0, ms), reading(true, false, 300, 0, ms)},
			{reading(false, true, 4000, 0, ms), reading(true, true, 400, 0, ms)},
			{reading(false, false, 5000, 0, ms), reading(true, false, 500, 0, ms)},
		}, want: Waiting},
		{name: "an instance that is down on three load balancers is one", looks: [][]Reading{
			{at("lb0", true), at("lb1", true), at("lb2", true)},
			{at("lb0", false), at("lb1", false), at("lb2", false)},
			{at("lb0", true), at("lb1", true), at("lb2", true)},
		}, want: Waiting},
		{name: "1 ms and 2 ms are alike", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1e4, 0, ms), reading(true, true, 1000, 0, 2*ms)},
			{reading(false, true, 2e4, 0, ms), reading(true, true, 2000, 0, 2*ms)},
			{reading(false, true, 3e4, 0, ms), reading(true, true, 3000, 0, 2*ms)},
			{reading(false, true, 4e4, 0, ms), reading(true, true, 4000, 0, 2*ms)},
		}, want: Passed},
		{name: "50 ms and 150 ms are not", looks: [][]Reading{
			{reading(false, true, 0, 0, 50*ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1e4, 0, 50*ms), reading(true, true, 1000, 0, 150*ms)},
			{reading(false, true, 2e4, 0, 50*ms), reading(true, true, 2000, 0, 150*ms)},
			{reading(false, true, 3e4, 0, 50*ms), reading(true, true, 3000, 0, 150*ms)},
		}, want: Failed},
		{name: "down at two looks", looks: [][]Reading{
			{at("lb0", true)},
			{at("lb0", false)},
			{at("lb0", false)},
		}, want: Waiting},
		{name: "up on one of two load balancers", looks: [][]Reading{
			{at("lb0", true), at("lb1", false)},
			{at("lb0", true), at("lb1", false)},
			{at("lb0", true), at("lb1", false)},
		}, want: Waiting},
		{name: "no instance of the canary", looks: [][]Reading{
			{reading(false, true, 0, 0, ms)},
			{reading(false, true, 1000, 0, ms)},
			{reading(false, true, 2000, 0, ms)},
			{reading(false, true, 3000, 0, ms)},
		}, want: Waiting, reason: "0 of 100 requests"},
		{name: "many retries", looks: grow(4, 1000, 300, 3, 60), want: Failed, reason: "more retries: "},
		{name: "nothing to compare with", looks: grow(4, 0, 1000, 10, 10), want: Waiting, reason: "the stable version has had no requests"},
		{name: "as good", looks: grow(5, 1000, 1000, 10, 10), want: Passed, reason: "1.00 % of 4000 requests failed"},
		{name: "as good, and has just gone down", looks: downAt(4, grow(5, 1000, 1000, 10, 10)), want: Waiting, reason: "an instance of the canary has just gone down"},
		{name: "as good, and went down a while ago", looks: downAt(2, grow(8, 1000, 1000, 10, 10)), want: Passed, reason: "1.00 % of "},
		{name: "as good, by fewer requests than a rollout asks for", looks: grow(5, 1000, 1000, 10, 10), want: Waiting, reason: "4000 of 5000 requests", least: 5000},
		{name: "a point more errors", looks: grow(5, 1000, 300, 7, 3), want: Waiting, reason: "errors: not enough requests yet: "},
		{name: "a point more retries", looks: grow(5, 1000, 300, 3, 7), want: Waiting, reason: "retries: not enough requests yet: "},
		{name: "response times compared twice", looks: grow(3, 1000, 3000, 30, 30), want: Waiting, reason: "response time: not enough requests yet: "},
		{name: "errors after a reload", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 9000, 0, ms), reading(true, true, 900, 0, ms)},
			{reading(false, true, 2000, 0, ms), reading(true, true, 200, 100, ms)},
		}, want: Failed, reason: "more errors: "},
		{name: "errors before a reload", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1000, 10, ms), reading(true, true, 100, 1, ms)},
			{reading(false, true, 9000, 9, ms), reading(true, true, 900, 0, ms)},
		}, want: Waiting, reason: "response time: not enough requests yet: "},
		{name: "retries before a reload", looks: [][]Reading{
			{reading(false, true, 0, 0, ms), reading(true, true, 0, 0, ms)},
			{reading(false, true, 1000, 0, ms), retried(reading(true, true, 100, 0, ms), 1)},
			{reading(false, true, 9000, 0, ms), reading(true, true, 900, 0, ms)},
		}, want: Waiting, reason: "response time: not enough requests yet: "},
		{name: "down again and again on the first load balancer", looks: [][]Reading{
			{at("lb0", true), at("lb1", true)},
			{at("lb0", false), at("lb1", true)},
			{at("lb0", true), at("lb1", true)},
			{at("lb0", false), at("lb1", true)},
			{at("lb0", true), at("lb1", true)},
			{at("lb0", false), at("lb1", true)},
		}, want: Failed, reason: "instances of the canary went down 3 times"},
		{name: "down again and again on the second load balancer", looks: [][]Reading{
			{at("lb0", true), at("lb1", true)},
			{at("lb0", true), at("lb1", false)},
			{at("lb0", true), at("lb1", true)},
			{at("lb0", true), at("lb1", false)},
			{at("lb0", true), at("lb1", true)},
			{at("lb0", true), at("lb1", false)},
		}, want: Failed, reason: "instances of the canary went down 3 times"},
		{name: "never up on both load balancers", looks: [][]Reading{
			{at("lb0", false), at("lb1", true)},
			{at("lb0", false), at("lb1", false)},
			{at("lb0", false), at("lb1", true)},
			{at("lb0", true), at("lb1", false)},
			{at("lb0", false), at("lb1", true)},
			{at("lb0", false), at("lb1", false)},
			{at("lb0", false), at("lb1", true)},
			{at("lb0", true), at("lb1", false)},
		}, want: Waiting},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := Default
			rules.MinRequests = cmp.Or(c.least, rules.MinRequests)
			a := New(rules)
			var got Verdict
			for _, l := range c.looks {
				got = a.Look(l)
			}
			if got.Outcome != c.want || !strings.HasPrefix(got.Reason, c.reason) {
				t.Errorf("got %s (%s), want %s (%s…)", got.Outcome, got.Reason, c.want, c.reason)
			}
		})
	}
}

// downAt has the canary down at one look.
func downAt(look int, looks [][]Reading) [][]Reading {
	for i := range looks[look] {
		if r := &looks[look][i]; r.IsCanary {
			r.IsUp = false
		}
	}
	return looks
}
