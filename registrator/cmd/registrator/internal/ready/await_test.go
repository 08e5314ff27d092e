package ready_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/ready"
)

// health is a server whose answers are set, by path.
func health(t *testing.T, answer func(round int64) int) (url string) {
	t.Helper()
	var round atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "/", http.StatusFound)
			return
		}
		w.WriteHeader(answer(round.Add(1)))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func always(status int) func(int64) int { return func(int64) int { return status } }

func TestAwaitReturnsOnceAllChecksPass(t *testing.T) {
	var log bytes.Buffer
	url := health(t, func(round int64) int {
		switch {
		case round < 4:
			return http.StatusServiceUnavailable
		case round < 6:
			return http.StatusTooManyRequests // a warning, to Consul
		}
		return http.StatusNoContent
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	place, err := ready.Await(ctx, ready.Config{
		Places: [][]ready.Check{{{TCP: "127.0.0.1:1"}}, {{TCP: strings.TrimPrefix(url, "http://")}, {HTTP: url + "/elsewhere"}}},
		Every:  time.Millisecond, Logger: hclog.New(&hclog.LoggerOptions{Output: &log}),
	})
	if err != nil || place != 1 {
		t.Fatalf("got %d, %v, want the place where it is", place, err)
	}
	for _, once := range []string{"status 503", "status 429", "program ready"} {
		if got := strings.Count(log.String(), once); got != 1 {
			t.Errorf("%q is logged %d times, want once, when it begins:\n%s", once, got, &log)
		}
	}
}

func TestAwaitEndsWithItsContextAndSaysWhatWasWrong(t *testing.T) {
	gaveUp := errors.New("gave up")
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hanging.Close)
	for name, c := range map[string]struct {
		check   ready.Check
		timeout time.Duration
		want    string
	}{
		"status":          {ready.Check{HTTP: health(t, always(http.StatusNotFound))}, time.Second, "status 404"},
		"nothing listens": {ready.Check{TCP: "127.0.0.1:1"}, time.Second, "connection refused"},
		"no answer":       {ready.Check{HTTP: hanging.URL}, 20 * time.Millisecond, "no answer within 20ms"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, gaveUp)
			defer cancel()
			_, err := ready.Await(ctx, ready.Config{Places: [][]ready.Check{{c.check}}, Every: time.Millisecond, Timeout: c.timeout})
			if !errors.Is(err, gaveUp) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q, and %q", err, gaveUp, c.want)
			}
		})
	}
}

func TestPassesAsksOnce(t *testing.T) {
	url := health(t, func(round int64) int {
		if round == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	c := ready.Config{Places: [][]ready.Check{{{HTTP: url}}}}
	if ready.Passes(t.Context(), c) || !ready.Passes(t.Context(), c) {
		t.Error("got true and false, or twice the same, want false and then true")
	}
}
