package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pointsman/pointsman/services/client/internal/load"
	"github.com/pointsman/pointsman/services/internal/command"
)

func TestProgressLineTellsTotalsAndTheLastSecond(t *testing.T) {
	got := progressLine("client0", load.Snapshot{
		Elapsed: 12*time.Second + 300*time.Millisecond, Requests: 1200, Failed: 3,
		Last: load.Second{Requests: 100, P50: 0.81, P99: 2.14, Max: 4.5, Versions: map[string]uint64{"1.1": 25, "1.0": 75}},
	})
	want := "client0   12s  1200 requests  3 failed  |  100/s  p50 0.8  p99 2.1  max 4.5 ms  |  1.0 75%  1.1 25%"
	if got != want {
		t.Errorf("line: got %q, want %q", got, want)
	}
}

// terminal does what a terminal does with CR, LF and "erase line".
type terminal struct{ lines []string }

func (v *terminal) Write(p []byte) (int, error) {
	text := strings.ReplaceAll(string(p), eraseLine, "\x00")
	for _, r := range text {
		if len(v.lines) == 0 {
			v.lines = []string{""}
		}
		last := &v.lines[len(v.lines)-1]
		switch r {
		case '\x00':
			*last = ""
		case '\n':
			v.lines = append(v.lines, "")
		default:
			*last += string(r)
		}
	}
	return len(p), nil
}

func TestProgressIsRedrawnBelowTheLog(t *testing.T) {
	var v terminal
	s := &screen{out: &v, mode: redraw, width: func() int { return 11 }}
	log := s.around(&v)

	write := func(w io.Writer, text string) {
		t.Helper()
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	write(log, "started\n")
	s.progress("1s 100 requests") // is cut to what the terminal holds
	s.progress("2s")
	write(log, "first response\n")
	s.progress("3s")
	s.done()
	write(log, "stopped\n")

	if diff := cmp.Diff(v.lines, []string{"started", "first response", "3s", "stopped", ""}); diff != "" {
		t.Errorf("terminal (-got +want):\n%s", diff)
	}
	s.progress("1s 100 requests")
	if got, want := v.lines[len(v.lines)-1], "1s 100 req"; got != want {
		t.Errorf("a long line: got %q, want %q", got, want)
	}
}

func TestProgressIsPlainLinesOffATerminal(t *testing.T) {
	for mode, want := range map[string]string{"auto": "1s\n2s\n", "plain": "1s\n2s\n", "none": ""} {
		var out bytes.Buffer
		s, err := newScreen(mode, &out)
		if err != nil {
			t.Fatal(err)
		}
		s.progress("1s")
		s.progress("2s")
		s.done()
		if got := out.String(); got != want {
			t.Errorf("%s: got %q, want %q", mode, got, want)
		}
	}
}

func TestFailuresAreLoggedUpToABoundEachSecond(t *testing.T) {
	core, seen := observer.New(zapcore.InfoLevel)
	l := failureLog{log: zap.New(core)}
	for i := range 13 {
		l.add(load.Failure{Cause: load.Status, Detail: fmt.Sprint(i), Target: "http://lb0/", Method: "GET"})
	}
	l.second()
	l.add(load.Failure{Cause: load.Timeout})
	l.second()

	if got := seen.FilterMessage("request failed").Len(); got != 11 {
		t.Errorf("failures logged: got %d, want 10 of the first second and 1 of the next", got)
	}
	more := seen.FilterMessage("more requests failed").All()
	if len(more) != 1 || more[0].ContextMap()["count"] != int64(3) {
		t.Errorf("the others: got %v, want one line that counts 3", more)
	}
	fields := seen.All()[0].ContextMap()
	for _, key := range []string{"cause", "detail", "target", "method", "failed"} {
		if fields[key] == nil {
			t.Errorf("failure: got fields %v, want %s among them", fields, key)
		}
	}
}

func TestSummaryNamesWhatFailed(t *testing.T) {
	got := summary(load.Report{
		Name: "client0", Seconds: 60, Requests: 6000, Failed: 3, Rate: 100, P50: 0.7, P90: 1, P99: 2, Max: 10,
		Failures: map[load.Cause]uint64{load.Status: 2, load.Timeout: 1, load.Body: 0}, FailedIdempotent: 2, FailedPost: 1,
		Versions: map[string]uint64{"1.0": 5997}, Instances: map[string]uint64{"api0": 5997},
	})
	want := `client0: 6000 requests in 60.0 s (100.0/s), 3 failed
  latency   p50 0.7  p90 1.0  p99 2.0  max 10.0 ms
  versions  1.0 5997
  servers   api0 5997
  failures  status 2 timeout 1 (2 of idempotent requests, 1 of POST)
`
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("summary (-got +want):\n%s", diff)
	}
}

func TestVerdict(t *testing.T) {
	p := command.Process{Stdout: io.Discard}
	for _, c := range []struct {
		name   string
		report load.Report
		ok     bool
	}{
		{"all succeeded", load.Report{Requests: 10}, true},
		{"one failed", load.Report{Requests: 10, Failed: 1}, false},
		{"no request was made", load.Report{}, false},
	} {
		var s settings
		if err := s.conclude(t.Context(), zap.NewNop(), p, c.report); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want success %t", c.name, err, c.ok)
		}
	}
	s := settings{report: "/nowhere/at/all.json"}
	if err := s.conclude(t.Context(), zap.NewNop(), p, load.Report{Requests: 10}); err == nil || errors.Is(err, command.ErrFailed) {
		t.Errorf("report that can't be written: got %v, want an error with a message", err)
	}
}
