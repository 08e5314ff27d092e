package registrator_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/test/proctest"
)

// leaver is a program that leaves, with sidecars around it, in a bubble.
type leaver struct {
	*agentFake
	*pipes
	config registrator.Config
	log    proctest.Output

	outcomes []registrator.Drain

	supersede bool // another registers under its ID meanwhile
}

func newLeaver() *leaver {
	l := &leaver{agentFake: &agentFake{lag: 20 * time.Millisecond}, pipes: newPipes()}
	l.config = fakeConfig(l.agentFake)
	l.config.Logger = hclog.New(&hclog.LoggerOptions{Output: &l.log, DisableTime: true})
	l.config.OnDrain = func(g registrator.Drain) { l.outcomes = append(l.outcomes, g) }
	return l
}

// with adds a load balancer whose sidecar answers at the address.
func (l *leaver) with(name, at string, handler http.HandlerFunc) *leaver {
	l.put(at, handler)
	return l.known(balancer(name, at))
}

func (l *leaver) known(e *api.ServiceEntry) *leaver {
	l.change(func() { l.sidecars = append(l.sidecars, e) })
	return l
}

// leaves registers and leaves, and gives how long it took until the stop.
func (l *leaver) leaves(t *testing.T, ctx context.Context) (time.Duration, error) { //nolint:revive // t first
	t.Helper()
	r := registered(t, l.config) //nolint:contextcheck // ctx is of the leave
	r.SetDial(l.dial)
	time.Sleep(time.Second) // of its life
	began := time.Now()
	var took time.Duration
	err := r.Leave(ctx, func(context.Context) error {
		took = time.Since(began)
		if !strings.Contains(l.agentFake.known, contract.KeyDrain) && !l.supersede {
			t.Errorf("registration at the stop: got %s, want it marked", l.agentFake.known)
		}
		return nil
	})
	l.serve.Wait() // would hang if a connection were left open
	return took, err
}

// got gives the outcomes, as "name outcome".
func (l *leaver) got() []string {
	var out []string
	for _, o := range l.outcomes {
		out = append(out, o.Balancer+" "+string(o.Outcome))
	}
	return out
}

func (l *leaver) want(t *testing.T, outcomes ...string) {
	t.Helper()
	if diff := cmp.Diff(l.got(), outcomes); diff != "" {
		t.Errorf("outcomes (-got +want):\n%s\nlog:\n%s", diff, &l.log)
	}
}

func within(t *testing.T, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("the stop came after %v, want %v to %v", got, least, most)
	}
}

const (
	lb0At = "192.0.2.1:9600"
	lb1At = "192.0.2.2:9600"
)

func TestStopsOnceAllHaveDrainedAndNoLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		idle := newSidecar("lb0").drainsIn(0, 0)
		l.with("lb0", lb0At, idle.ServeHTTP)
		l.with("lb1", lb1At, newSidecar("lb1").drainsIn(8*time.Second, 3).ServeHTTP) // 7 s after the mark
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, 7*time.Second, 7*time.Second)
		l.want(t, "lb0 drained", "lb1 drained")
		if got := l.outcomes[1]; got.MaxSessions != 3 || got.Sessions != 0 || got.Address != lb1At || got.Reason != nil {
			t.Errorf("lb1: got %+v, want 3 sessions seen and none left", got)
		}
		for want, times := range map[string]int{"drained on load balancer": 2, "lb=lb1 at=192.0.2.2:9600 ms=7000 sessions_seen=3": 1, `each="lb0 20ms, lb1 7s"`: 1, "[WARN]": 0} {
			if got := strings.Count(l.log.String(), want); got != times {
				t.Errorf("log: got %q %d times, want %d:\n%s", want, got, times, &l.log)
			}
		}
	})
}

func TestLeave_NoSessionAnywhere_StopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, l.lag, l.lag) // until Consul's servers have the mark
	})
}

// Another process takes over the registration, under the same ID: a restart
// that does not wait for the end.
func TestOneThatComesBackUnderTheSameIDIsNotTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.supersede = true
		l.with("lb0", lb0At, newSidecar("lb0").ServeHTTP) // it routes to the new one, and never says drained
		other := l.config
		other.Owner = "another process"
		time.AfterFunc(11*time.Second, func() { registered(t, other).Close() })
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		// 10 s after the mark; a look; then the wait.
		within(t, took, 10*time.Second+registrator.DefaultLeaveWait, 12*time.Second+registrator.DefaultLeaveWait)
		if got := l.agentFake.known; got == "" || strings.Contains(got, contract.KeyDrain) {
			t.Errorf("registration at the end: got %q, want the new one's", got)
		}
		for _, want := range []string{"ID taken by another process, waiting leave_wait", "ID taken by another process, not deregistered"} {
			if !strings.Contains(l.log.String(), want) {
				t.Errorf("log: want %q in\n%s", want, &l.log)
			}
		}
	})
}

func TestAsksWithTheIndexThatHasTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		late := newSidecar("lb0").drainsIn(0, 0)
		late.index = 0 // it has heard of nothing, and so knows of no session
		l.with("lb0", lb0At, late.ServeHTTP)
		time.AfterFunc(3*time.Second, func() {
			l.agentFake.mu.Lock()
			index := l.index
			l.agentFake.mu.Unlock()
			late.becomes(func() { late.index = index })
		})
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, 2*time.Second, 2*time.Second)
		if got := late.questions(); len(got) == 0 || !strings.HasSuffix(got[0], "/api/v1/drain/api/api-1?index=3&wait=5s") {
			t.Errorf("questions: got %q, want Consul's index of the mark, 3: sidecar, registration, mark", got)
		}
	})
}

func TestServiceAndInstanceAreEscapedInTheQuestion(t *testing.T) {
	for id, want := range map[string]string{"a b/c?d#e%2F": "a%20b%2Fc%3Fd%23e%252F", "..": "%2E%2E", `q"q\`: "q%22q%5C", "é": "%C3%A9"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLeaver()
			l.config.ID = id
			s := newSidecar("lb0").drainsIn(0, 0)
			l.with("lb0", lb0At, s.ServeHTTP)
			if _, err := l.leaves(t, t.Context()); err != nil && !strings.Contains(err.Error(), "deregister") { // whose path the fake takes apart
				t.Error(err)
			}
			if got := s.questions(); len(got) != 1 || !strings.HasPrefix(got[0], "/api/v1/drain/api/"+want+"?") {
				t.Errorf("%q: asked %q, want once %s", id, got, want)
			}
			l.want(t, "lb0 drained")
		})
	}
}

// TestWhoCannotBeAskedGetsItsTimeAndIsNamed: each of these costs the leave wait,
// from when it was silent, and no more.
func TestWhoCannotBeAskedGetsItsTimeAndIsNamed(t *testing.T) {
	const wait = registrator.DefaultLeaveWait
	text := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	good := `{"load_balancer":"lb0","service":"api","instance":"api-1","drained":true,"sessions":0,"index":9,"waited_ms":1}`
	edit := func(from, to string) http.HandlerFunc { return text(200, strings.Replace(good, from, to, 1)) }
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		raw     func(net.Conn)
		refuse  bool
		says    string
		until   time.Duration // until the stop; 0: the wait
	}{
		"nothing listens":          {refuse: true, says: "connection refused"},
		"a black hole":             {says: "no connection within 3s"},
		"it wants a token":         {handler: text(401, ""), says: "Sidecars.TokenFile (--sidecar-token-file)"},
		"it wants a certificate":   {handler: text(403, ""), says: "Sidecars.CertFile (--sidecar-cert-file)"},
		"another load balancer's":  {handler: edit(`"lb0"`, `"lb9"`), says: `load_balancer \"lb9\", not of \"lb0\"`},
		"of another service":       {handler: edit(`"api"`, `"web"`), says: `service \"web\", not of \"api\"`},
		"of another instance":      {handler: edit(`"api-1"`, `"api-2"`), says: `instance \"api-2\"`},
		"drained, and sessions":    {handler: edit(`"sessions":0`, `"sessions":1`), says: "drained with 1 sessions"},
		"not a 404 of a sidecar":   {handler: text(404, "404 page not found\n"), says: "404 from something other than this load balancer"},
		"a 404 of another sidecar": {handler: text(404, `{"load_balancer":"lb9"}`), says: `not of \"lb0\"`},
		"malformed":                {handler: text(400, good), says: "status 400"},
		"broken":                   {handler: text(500, good), says: "status 500"},
		"a proxy's 503":            {handler: text(503, good), says: "status 503"},
		"another place":            {handler: text(302, good), says: "status 302"},
		"no JSON":                  {handler: text(200, "<html>"), says: "no JSON object"},
		"too much JSON":            {handler: text(200, good+good), says: "no JSON object"},
		"nothing":                  {handler: text(200, ""), says: "no JSON object"},
		"null":                     {handler: text(200, "null"), says: "no JSON object"},
		"no word of being drained": {handler: edit(`"drained":true,`, ""), says: `has no \"drained\"`},
		"a word for drained":       {handler: edit(`true`, `"true"`), says: "drained: "},
		"huge":                     {handler: text(200, good+strings.Repeat(" ", registrator.MaxAnswer)), says: "larger than 65536 bytes"},
		"a huge header": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			_, _ = io.WriteString(w, good)
		}, says: "exceeded"},
		"no HTTP":    {raw: func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n") }, says: "malformed HTTP response"},
		"hangs up":   {raw: func(net.Conn) {}, says: "EOF"},
		"breaks off": {raw: func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") }, says: "answer incomplete"},
		"it takes the question, and no more": {
			raw: func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }, says: "no answer within",
			until: wait + registrator.AskWait + registrator.AskGrace,
		},
		"an endless answer": {
			raw: func(c net.Conn) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				for {
					if _, err := io.WriteString(c, " "); err != nil {
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			}, says: "answer incomplete",
			until: wait + registrator.AskWait + registrator.AskGrace,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver()
				l.known(balancer("lb0", lb0At))
				l.put(lb1At, text(200, good)) // to which no request may be led
				switch {
				case c.raw != nil:
					l.raw[lb0At] = c.raw
				case !c.refuse:
					l.put(lb0At, c.handler)
				}
				took, err := l.leaves(t, t.Context())
				if err != nil {
					t.Errorf("Leave = %v, want no error: it had its time", err)
				}
				least := max(wait, c.until)
				within(t, took, least, least+l.lag)
				l.want(t, "lb0 waited")
				if got := l.log.String(); strings.Count(got, "[WARN]") != 1 || !strings.Contains(got, "load balancer unreachable, waited leave_wait: ") || !strings.Contains(got, "lb=lb0") || !strings.Contains(got, c.says) {
					t.Errorf("log: got\n%s\nwant one warning that names lb0 and says %q", got, c.says)
				}
				if got := l.dialled(lb0At); got > 20 {
					t.Errorf("asked %d times, want it left alone in between", got)
				}
			})
		})
	}
}

func TestOneThatCannotBeAskedDoesNotHoldUpTheOthersNorIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
		l.known(balancer("lb1", lb1At)) // nothing listens
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait+l.lag)
		l.want(t, "lb0 drained", "lb1 waited")
		if !strings.Contains(l.log.String(), `each="lb0 20ms, lb1 3.02s (waited)"`) {
			t.Errorf("log: got\n%s\nwant how long each took", &l.log)
		}
	})
}

func TestARegistrationThatCannotBeReadGetsItsTime(t *testing.T) {
	meta := func(key, value string) *api.ServiceEntry {
		e := balancer("lb0", lb0At)
		e.Service.Meta[key] = value
		return e
	}
	for name, c := range map[string]struct {
		entry *api.ServiceEntry
		says  string
	}{
		"no name":                 {meta(contract.KeyBalancer, ""), "pointsman-lb"},
		"a name with a break":     {meta(contract.KeyBalancer, "a\nb"), "pointsman-lb"},
		"an unknown scheme":       {meta(contract.KeyScheme, "file"), "pointsman-scheme"},
		"routes with a break":     {meta(contract.KeyRoutes, "api\n"), "pointsman-routes"},
		"a port that is none":     {balancer("lb0", "192.0.2.1:0"), "port 0"},
		"a port beyond":           {balancer("lb0", "192.0.2.1:65536"), "port 65536"},
		"every address":           {balancer("lb0", "0.0.0.0:1"), "0.0.0.0"},
		"every IPv6 address":      {balancer("lb0", "[::]:1"), "::"},
		"a group's address":       {balancer("lb0", "[ff02::1]:1"), "ff02::1"},
		"an address of a zone":    {balancer("lb0", "[fe80::1%eth0]:1"), "fe80::1%eth0"},
		"an address with a path":  {balancer("lb0", "192.0.2.1/x?@:1"), "want the address of one machine"},
		"an address with a break": {balancer("lb0", "192.0.2.1\r\nX-y:1"), "want the address of one machine"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver()
				l.put(lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
				l.known(c.entry)
				took, err := l.leaves(t, t.Context())
				if err != nil {
					t.Error(err)
				}
				within(t, took, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait+l.lag)
				if len(l.outcomes) != 1 || l.outcomes[0].Outcome != registrator.OutcomeWaited || !strings.Contains(l.outcomes[0].Reason.Error(), c.says) {
					t.Errorf("got %+v, want one that waited for %q", l.outcomes, c.says)
				}
				if len(l.dials) > 0 {
					t.Errorf("dialled %v, want none", l.dials)
				}
				for line := range strings.Lines(l.log.String()) {
					if !strings.HasPrefix(line, "[") {
						t.Errorf("a line of the log that another wrote: %q", line)
					}
				}
			})
		})
	}
}

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
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, l.lag, l.lag)
		l.want(t, "lb0 not_routed")
		if got := l.dialled("192.0.2.3:1"); got != 0 {
			t.Errorf("one that does not route the service was asked %d times", got)
		}
	})
}

func TestBusySidecarIsAskedLaterAndNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		s := newSidecar("lb0").drainsIn(0, 0)
		s.busy = 10
		l.with("lb0", lb0At, s.ServeHTTP)
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, 10*time.Second, 20*time.Second)
		l.want(t, "lb0 drained")
	})
}

func TestSidecarThatRestartsIsFoundAtItsNewAddress(t *testing.T) {
	for name, gone := range map[string]func(*leaver){
		"stopped in order": func(l *leaver) { l.remove(lb0At); l.change(func() { l.sidecars = nil }) },
		"killed":           func(l *leaver) { l.remove(lb0At) },
		"cut off":          func(l *leaver) { l.put(lb0At, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver()
				before := newSidecar("lb0")
				before.sessions = 5
				l.with("lb0", lb0At, func(w http.ResponseWriter, r *http.Request) {
					before.ServeHTTP(w, r.WithContext(r.Context()))
				})
				after := newSidecar("lb0").drainsIn(20*time.Second, 2)
				time.AfterFunc(3*time.Second, func() { gone(l) })
				time.AfterFunc(8*time.Second, func() { // after the first question's answer, at 6 s
					l.put(lb1At, after.ServeHTTP)
					l.change(func() { l.sidecars = []*api.ServiceEntry{balancer("lb0", lb1At)} })
				})
				took, err := l.leaves(t, t.Context())
				if err != nil {
					t.Error(err)
				}
				within(t, took, 19*time.Second, 19*time.Second)
				l.want(t, "lb0 drained")
				if got := l.outcomes[0]; got.Address != lb1At || got.MaxSessions != 5 {
					t.Errorf("got %+v, want it at its new address, with 5 sessions seen", got)
				}
			})
		})
	}
}

func TestQuestionThatHangsIsGivenUpWhenTheSidecarHasMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.known(balancer("lb0", lb0At))
		l.raw[lb0At] = func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }
		l.put(lb1At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
		time.AfterFunc(2*time.Second, func() { l.change(func() { l.sidecars[0] = balancer("lb0", lb1At) }) })
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, time.Second, 2100*time.Millisecond) // one period of looking
		l.want(t, "lb0 drained")
	})
}

func TestSidecarThatEndsPermanentlyGetsItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		s := newSidecar("lb0")
		s.sessions = 1
		l.with("lb0", lb0At, s.ServeHTTP)
		time.AfterFunc(3*time.Second, func() {
			l.remove(lb0At)
			l.change(func() { l.sidecars = nil })
		})
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, registrator.AskWait+registrator.DefaultLeaveWait, registrator.AskWait+registrator.DefaultLeaveWait+100*time.Millisecond)
		l.want(t, "lb0 waited")
	})
}

func TestOneThatComesWhileOthersAreAskedIsAskedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(6*time.Second, 1).ServeHTTP)
		time.AfterFunc(3*time.Second, func() { l.with("lb1", lb1At, newSidecar("lb1").drainsIn(6*time.Second, 1).ServeHTTP) })
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, 8*time.Second, 8*time.Second)
		l.want(t, "lb0 drained", "lb1 drained")
	})
}

func TestConsulAwayInTheMiddleChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(20*time.Second, 1).ServeHTTP)
		time.AfterFunc(3*time.Second, func() { l.set(down) })
		time.AfterFunc(18*time.Second, func() { l.set(nil) })
		took, err := l.leaves(t, t.Context())
		if err != nil {
			t.Error(err)
		}
		within(t, took, 19*time.Second, 19*time.Second)
		l.want(t, "lb0 drained")
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
				took, err := l.leaves(t, t.Context())
				if err != nil {
					t.Error(err)
				}
				within(t, took, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait)
				l.want(t)
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
				took, err := l.leaves(t, t.Context())
				if err != nil {
					t.Error(err)
				}
				within(t, took, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait)
				l.want(t)
				if got := l.dialled(lb0At) + l.count("GET /v1/health/"); off && got > 0 {
					t.Errorf("%d questions, want none", got)
				}
			})
		})
	}
}

// Nothing answers where a sidecar was that has stopped. Its HAProxy still serves,
// for as long as no check of the record is critical.
func TestStoppedSidecar_GetsLeaveWaitUntilItsRecordEnds(t *testing.T) {
	for status, waits := range map[string]bool{api.HealthPassing: true, api.HealthWarning: true, api.HealthCritical: false} {
		t.Run(status, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeaver()
				l.with("lb1", lb1At, newSidecar("lb1").drainsIn(0, 0).ServeHTTP)
				record := entry("pointsman-sidecar-lb0", lb0At, contract.Sidecar{Balancer: "lb0", Services: []string{"api"}, Stopped: time.Now()})
				record.Checks = api.HealthChecks{{CheckID: "stopped", Status: api.HealthPassing}, {CheckID: "haproxy", Status: status}}
				l.known(record)
				took, err := l.leaves(t, t.Context())
				if err != nil {
					t.Error(err)
				}
				if waits {
					within(t, took, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait+time.Second)
					l.want(t, "lb1 drained", "lb0 waited")
				} else {
					within(t, took, l.lag, l.lag)
					l.want(t, "lb1 drained")
				}
			})
		})
	}
}

// One whose own check fails may only be slow: its HAProxy still serves.
func TestRunningSidecar_CheckCritical_IsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.put(lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
		e := balancer("lb0", lb0At)
		e.Checks = api.HealthChecks{{CheckID: "sidecar", Status: api.HealthCritical}}
		l.known(e)
		if _, err := l.leaves(t, t.Context()); err != nil {
			t.Error(err)
		}
		l.want(t, "lb0 drained")
	})
}

func TestLeaveTimeoutBoundsTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.config.LeaveTimeout = 12 * time.Second
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(time.Hour, 7).ServeHTTP)
		l.with("lb1", lb1At, newSidecar("lb1").drainsIn(0, 0).ServeHTTP)
		took, err := l.leaves(t, t.Context())
		within(t, took, 12*time.Second, 12*time.Second)
		if err == nil || !strings.Contains(err.Error(), `leave "api-1": drain: not drained on lb0 (7 sessions): leave timeout of 12s expired`) {
			t.Errorf("Leave = %v, want which have not drained, and why it ended", err)
		}
		l.want(t, "lb1 drained", "lb0 cut")
	})
}

func TestEndOfTheContextCutsTheHandshakeShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(time.Hour, 7).ServeHTTP)
		ctx, cancel := context.WithCancelCause(t.Context())
		because := errors.New("it has ended")
		time.AfterFunc(5*time.Second, func() { cancel(because) })
		took, err := l.leaves(t, ctx)
		within(t, took, 4*time.Second, 4*time.Second)
		if !errors.Is(err, because) {
			t.Errorf("Leave = %v, want the cause %v", err, because)
		}
		l.want(t, "lb0 cut")
	})
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

func TestTokenIsReadAgainForEachQuestionAndNeverShown(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/token"
	write(t, file, "old-secret\n")
	s := newSidecar("lb0")
	s.drained, s.token = true, "new-secret"
	var once sync.Once
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		once.Do(func() { write(t, file, "new-secret\n") })
	}))
	t.Cleanup(server.Close)
	authority := t.TempDir() + "/ca.pem"
	write(t, authority, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	f := &agentFake{}
	f.sidecars = append(f.sidecars, entry("sc", server.Listener.Addr().String(), contract.Sidecar{Balancer: "lb0", HTTPS: true, Unlisted: true}))
	var log proctest.Output
	var got []registrator.Drain
	config := fakeConfig(f)
	config.Logger = hclog.New(&hclog.LoggerOptions{Output: &log})
	config.Sidecars = registrator.Sidecars{TokenFile: file, CAFile: authority}
	config.OnDrain = func(l registrator.Drain) { got = append(got, l) }
	if err := registered(t, config).Leave(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if len(got) != 1 || got[0].Outcome != registrator.OutcomeDrained {
		t.Errorf("got %+v, want it drained once the file has the right token", got)
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("log: got\n%s\nwant no token in it", &log)
	}
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

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
