package registrator_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

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
		"a black hole":             {says: "no connection within 2.7s"},
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
			until: wait,
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
			until: wait,
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
		l.leavesWithin(t, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait+l.lag, "lb0 drained", "lb1 waited")
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

func TestBusySidecarIsAskedLaterAndNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeaver()
		s := newSidecar("lb0").drainsIn(0, 0)
		s.busy = 10
		l.with("lb0", lb0At, s.ServeHTTP)
		l.leavesWithin(t, 10*time.Second, 20*time.Second, "lb0 drained")
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
				l.leavesWithin(t, 19*time.Second, 19*time.Second, "lb0 drained")
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
		l.leavesWithin(t, time.Second, 2100*time.Millisecond, "lb0 drained") // one period of looking
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
		l.leavesWithin(t, registrator.AskWait+registrator.DefaultLeaveWait, registrator.AskWait+registrator.DefaultLeaveWait+100*time.Millisecond, "lb0 waited")
	})
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
