package registrator_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

func TestAddressOfASidecarIsItsNodesWhereItHasNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.put("192.0.2.9:9600", newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
		l.put("lb1.example_net:9600", newSidecar("lb1").drainsIn(0, 0).ServeHTTP)
		l.put("[2001:db8::1]:9600", newSidecar("lb2").drainsIn(0, 0).ServeHTTP)
		l.known(balancer("lb0", ":9600")).known(balancer("lb1", "lb1.example_net:9600")).known(balancer("lb2", "[2001:db8::1]:9600"))
		if _, err := l.leaves(t, t.Context()); err != nil {
			t.Error(err)
		}
		if got := strings.Count(strings.Join(l.got(), " "), "drained"); got != 3 {
			t.Errorf("got %q, want all three drained", l.got())
		}
	})
}

func TestOnlyThoseThatMayRouteTheServiceAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.known(entry("other", "192.0.2.3:1", contract.Sidecar{Balancer: "other", Services: []string{"web"}}))
		knows := newSidecar("lb0")
		knows.unrouted = true
		l.put(lb0At, knows.ServeHTTP)
		l.known(entry("all", lb0At, contract.Sidecar{Balancer: "lb0", Unlisted: true}))
		l.leavesWithin(t, l.lag, l.lag, "lb0 not_routed")
		if got := l.dialled("192.0.2.3:1"); got != 0 {
			t.Errorf("one that does not route the service was asked %d times", got)
		}
	})
}

func TestOneThatComesWhileOthersAreAskedIsAskedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(6*time.Second, 1).ServeHTTP)
		time.AfterFunc(3*time.Second, func() { l.with("lb1", lb1At, newSidecar("lb1").drainsIn(6*time.Second, 1).ServeHTTP) })
		l.leavesWithin(t, 8*time.Second, 8*time.Second, "lb0 drained", "lb1 drained")
	})
}

func TestConsulAwayInTheMiddleChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(20*time.Second, 1).ServeHTTP)
		time.AfterFunc(3*time.Second, func() { l.set(down) })
		time.AfterFunc(18*time.Second, func() { l.set(nil) })
		l.leavesWithin(t, 19*time.Second, 19*time.Second, "lb0 drained")
		if got := l.log.String(); strings.Count(got, "[WARN]") != 1 || !strings.Contains(got, "asking known sidecars") {
			t.Errorf("log: got\n%s\nwant one warning", got)
		}
	})
}

func TestConsulThatDoesNotSayWhomToAskCostsTheLeaveWait(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(context.Context, call) (int, error)
		lag    time.Duration
		says   string
	}{
		"no health": {func(_ context.Context, c call) (int, error) {
			if strings.Contains(c.what, "/health/") {
				return http.StatusInternalServerError, nil
			}
			return http.StatusOK, nil
		}, 0, "500"},
		"forbidden": {func(_ context.Context, c call) (int, error) {
			if strings.Contains(c.what, "/health/") {
				return http.StatusBadRequest, nil
			}
			return http.StatusOK, nil
		}, 0, "400"},
		"it hangs": {func(ctx context.Context, c call) (int, error) {
			if strings.Contains(c.what, "/health/") {
				return hang(ctx, c)
			}
			return http.StatusOK, nil
		}, 0, "deadline"},
		"no sidecars": {func(_ context.Context, c call) (int, error) {
			if strings.HasSuffix(c.what, "/pointsman-sidecar") {
				return http.StatusInternalServerError, nil
			}
			return http.StatusOK, nil
		}, 0, "500"},
		"the mark does not show": {nil, time.Hour, "leaving mark not visible"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver()
				l.lag = c.lag
				l.with("lb0", lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
				l.set(c.answer)
				l.leavesWithin(t, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait)
				if got := l.log.String(); !strings.Contains(got, "Consul query for sidecars failed, waiting leave_wait") || !strings.Contains(got, c.says) {
					t.Errorf("log: got\n%s\nwant a warning with %q", got, c.says)
				}
			})
		})
	}
}

func TestConsulThatGivesNoIndexIsNotAskedWithoutAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.lag = time.Hour
		l.set(func(_ context.Context, c call) (int, error) {
			time.Sleep(time.Millisecond)
			if strings.Contains(c.what, "/health/") {
				l.agentFake.mu.Lock()
				l.index = 0
				l.agentFake.mu.Unlock()
			}
			return http.StatusOK, nil
		})
		if _, err := l.leaves(t, t.Context()); err != nil {
			t.Error(err)
		}
		if got := l.count("GET /v1/health/service/api"); got < 3 || got > 50 {
			t.Errorf("asked %d times in 3s, want 3 to 50", got)
		}
	})
}

func TestNoSidecarOrNoneAskedCostsTheLeaveWait(t *testing.T) {
	for name, off := range map[string]bool{"none is registered": false, "switched off": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver()
				l.config.Sidecars.Off = off
				if off {
					l.with("lb0", lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
				}
				l.leavesWithin(t, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait)
				if got := l.dialled(lb0At) + l.count("GET /v1/health/"); off && got > 0 {
					t.Errorf("%d questions, want none", got)
				}
			})
		})
	}
}

func TestSidecars_MoreThanAreAsked_ProgramServesUntilLeaveTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		s := newSidecar("lb")
		s.drained = true
		l.put(lb0At, s.ServeHTTP)
		const more = registrator.MaxSidecars + 50
		l.change(func() {
			for i := range more {
				e := balancer("lb", lb0At)
				e.Service.ID = fmt.Sprint(i)
				l.sidecars = append(l.sidecars, e)
			}
		})
		took, err := l.leaves(t, t.Context())
		if err == nil || !strings.Contains(err.Error(), "sidecars are registered") {
			t.Errorf("got error %v, want it to say that there are too many", err)
		}
		within(t, took, registrator.DefaultLeaveTimeout, registrator.DefaultLeaveTimeout)
		if len(l.outcomes) != registrator.MaxSidecars || l.dialled(lb0At) != registrator.MaxSidecars {
			t.Errorf("%d outcomes of %d questions, want %d", len(l.outcomes), l.dialled(lb0At), registrator.MaxSidecars)
		}
		if got := strings.Count(l.log.String(), "[WARN]"); got != 1 {
			t.Errorf("%d warnings, want one", got)
		}
	})
}

// Each of them may be the one that is not beside the load balancer's HAProxy
// (issue 14, section 4).
func TestSidecars_TwoAnswerForOneLoadBalancer_ProgramServesUntilLeaveTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		for _, at := range []string{lb0At, lb1At} {
			s := newSidecar("lb")
			s.drained = true
			l.with("lb", at, s.ServeHTTP)
		}
		l.change(func() { l.sidecars[1].Service.ID = "another" })
		took, err := l.leaves(t, t.Context())
		if err == nil || !strings.Contains(err.Error(), `several sidecars answer for load balancer "lb"`) {
			t.Errorf("got error %v, want it to name the load balancer", err)
		}
		within(t, took, registrator.DefaultLeaveTimeout, registrator.DefaultLeaveTimeout)
		if !strings.Contains(l.log.String(), "several sidecars answer for one load balancer") {
			t.Errorf("log: got\n%s\nwant a warning", &l.log)
		}
	})
}
