package cli

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// The command prints what became of its own request, and says with its exit code whether
// HAProxy was reloaded.
func TestReload_EachEnd_IsToldWithItsExitCode(t *testing.T) {
	at := noon.Add(123 * time.Nanosecond)
	mine := func(status reconcile.RequestStatus, text string) []reconcile.ReloadRequest {
		q := reconcile.ReloadRequest{Number: 2, By: "ann@lb0", At: at, Status: status, Error: text}
		if q.HasEnded() {
			q.Ended = at.Add(1500 * time.Millisecond)
		}
		return []reconcile.ReloadRequest{
			{Number: 1, By: "bob@lb0", At: at.Add(-time.Hour), Status: reconcile.RequestFailed, Error: "of another"},
			q,
			{Number: 3, By: "eve@lb0", At: at.Add(time.Second), Status: reconcile.RequestDue},
		}
	}
	for name, c := range map[string]struct {
		then       []reconcile.ReloadRequest
		reloads    reconcile.ReloadState
		isRefused  bool
		args       string
		code       int
		out, words string
	}{
		"done":            {then: mine(reconcile.RequestDone, ""), out: "lb0: HAProxy reloaded, 1.5s after the request\n"},
		"failed":          {then: mine(reconcile.RequestFailed, "[ALERT] haproxy.cfg:3: unknown keyword\x1b[2J"), code: 1, words: "reload failed: [ALERT] haproxy.cfg:3: unknown keyword·[2J"},
		"old workers":     {then: mine(reconcile.RequestDue, ""), reloads: reconcile.ReloadState{Pending: "requested", WaitsFor: "old workers"}, args: "--wait 300ms", code: 1, words: "not reloaded within 300ms, still due; waits for old workers"},
		"not waited for":  {args: "--wait 0s", out: "lb0: reload due\n"},
		"as JSON":         {then: mine(reconcile.RequestDone, ""), args: "--json", out: `{"load_balancer":"lb0","number":2,"by":"ann@lb0","at":"2026-11-29T12:00:00.000000123Z","status":"done","ended":"2026-11-29T12:00:01.500000123Z"}` + "\n"},
		"no HAProxy":      {isRefused: true, code: 1, words: reconcile.ErrNothingToReload.Error()},
		"sidecar started": {then: []reconcile.ReloadRequest{{Number: 2, At: at.Add(time.Hour), Status: reconcile.RequestDone}}, code: 1, words: errForgotten.Error()},
		"negative wait":   {args: "--wait -1s", code: 2, words: "must not be negative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			var by atomic.Value
			at := served(t, api.Options{
				Access: api.Access{Token: "secret"},
				State: func() any {
					s := sampleState()
					s.ReloadRequests = mine(reconcile.RequestUnderWay, "")
					if asked.Add(1) > 2 {
						s.Reloads, s.ReloadRequests = c.reloads, c.then
					}
					return daemon.Judged(s)
				},
				RequestReload: func(_ context.Context, who string) (sidecarapi.ReloadRequest, bool, error) {
					by.Store(who)
					if c.isRefused {
						return sidecarapi.ReloadRequest{}, true, reconcile.ErrNothingToReload
					}
					return sidecarapi.ReloadRequest{Number: 2, By: "ann@lb0", At: at, Status: "due"}, false, nil
				},
			})
			code, out, errs := sidecar(t, at+", token: secret", append([]string{"reload"}, strings.Fields(c.args)...)...)
			if code != c.code || out != c.out || !strings.Contains(errs, c.words) {
				t.Errorf("got %d, %q, %q; want %d, %q, %q", code, out, errs, c.code, c.out, c.words)
			}
			if who, _ := by.Load().(string); code != ExitUsage && !strings.HasSuffix(who, "@lb0") {
				t.Errorf("asked for in the name of %q", who)
			}
		})
	}
}
