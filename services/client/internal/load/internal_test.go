package load

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

func TestScheduleKeepsItsTimesThoughTheCallerIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		n := 0
		for tick := range schedule(t.Context(), start, 10, 3*time.Second) {
			if got, want := tick.due.Sub(start), time.Duration(n)*100*time.Millisecond; got != want || tick.number != n {
				t.Errorf("tick %d: got number %d due at %s, want %s", n, tick.number, got, want)
			}
			if n == 5 {
				time.Sleep(time.Second) // a caller that is held up
			}
			late := time.Since(tick.due)
			if n <= 4 && late != 0 || n > 15 && late != 0 {
				t.Errorf("tick %d: came %s late, want it on time", n, late)
			}
			n++
		}
		if n != 30 {
			t.Errorf("ticks: got %d, want 30", n)
		}
	})
}

func TestLatencyCountsFromWhenTheRequestWasDue(t *testing.T) {
	var l Load
	l.record.begin(time.Now())
	// Sent late: the schedule was held up for half a second.
	l.finish(request{due: time.Now().Add(-500 * time.Millisecond), method: http.MethodGet}, outcome{instance: "api0", version: "1.0"})
	if got := l.record.report(time.Now()).P50; got < 500 {
		t.Errorf("p50: got %v ms, want at least 500", got)
	}
}

// Transport.CloseIdleConnections holds for connections that come back later,
// but only until the next RoundTrip.
func TestARequestThatWasGivenItsTargetJustBeforeThatLeftKeepsNoConnection(t *testing.T) {
	var open atomic.Int64
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	server.Start()
	defer server.Close()
	old, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(Config{Targets: []*url.URL{old}, Rate: 1, Timeout: 5 * time.Second, MaxInFlight: 1, IdleTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	l.record.begin(time.Now())
	r := l.newRequest(tick{due: time.Now()})
	if err := l.SetTargets([]*url.URL{{Scheme: "http", Host: "lb1"}}); err != nil {
		t.Fatal(err)
	}
	l.carryOut(t.Context(), r)
	for deadline := time.Now().Add(5 * time.Second); open.Load() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("connections to the target that left: got %d, want none", open.Load())
		}
		runtime.Gosched()
	}
}

func TestSecondsOfSeveralClientsCanBeAddedUp(t *testing.T) {
	start := time.Now()
	sum := hdrhistogram.New(1, maxLatency.Microseconds(), 3)
	for client := range 2 {
		var r recorder
		r.begin(start)
		for range 100 {
			r.add(start, http.MethodGet, time.Duration(1+9*client)*time.Millisecond, outcome{instance: "api0", version: "1.0"})
		}
		series := r.report(start.Add(time.Second)).Series
		one, err := hdrhistogram.Decode([]byte(series[0].Histogram))
		if err != nil {
			t.Fatal(err)
		}
		sum.Merge(one)
	}
	if got := sum.TotalCount(); got != 200 {
		t.Errorf("count: got %d, want 200", got)
	}
	if p25, p75 := milliseconds(sum.ValueAtQuantile(25)), milliseconds(sum.ValueAtQuantile(75)); p25 != 1 || p75 < 10 || p75 > 10.01 {
		t.Errorf("p25, p75: got %v, %v ms, want 1 and 10", p25, p75)
	}
}

func TestRecorderIsBoundedHoweverLongItRuns(t *testing.T) {
	start := time.Now()
	var r recorder
	r.begin(start)
	for i := range 2 * maxNames {
		r.add(start, http.MethodGet, 0, outcome{instance: strconv.Itoa(i), version: "1.0"})
	}
	r.add(start.Add(3*time.Hour), http.MethodGet, 24*time.Hour, outcome{instance: "0", version: "1.0"})
	r.add(start.Add(4*time.Hour), http.MethodGet, 0, outcome{instance: "0", version: "1.0"})

	got := r.report(start.Add(4 * time.Hour))

	if len(got.Instances) != maxNames+1 || got.Instances[otherNames] != maxNames {
		t.Errorf("instances: got %d with %d others, want %d with %d", len(got.Instances), got.Instances[otherNames], maxNames+1, maxNames)
	}
	if n := len(got.Series); n != maxSeries+1 {
		t.Errorf("seconds: got %d, want the last hour and the one under way, %d", n, maxSeries+1)
	}
	for i, s := range got.Series {
		if want := 4*3600 - maxSeries + i; s.Second != want {
			t.Fatalf("series[%d]: got second %d, want %d", i, s.Second, want)
		}
	}
	if got.Requests != 2*maxNames+2 || got.Max < 600_000 {
		t.Errorf("totals: got %d requests, max %v ms, want all of them and the longest latency", got.Requests, got.Max)
	}
}
