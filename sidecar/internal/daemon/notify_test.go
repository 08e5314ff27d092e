package daemon

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// A shell of a service that has ended hands its variable down.
func TestNotifier_SocketIsGone_LogsOnceAndGoesOn(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", t.TempDir()+"/gone.sock")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := notifier{
			state: func() *reconcile.State { return &reconcile.State{Ready: time.Now().Second()%2 == 0} }, // always news
			alive: func() error { return nil }, log: hclog.New(&hclog.LoggerOptions{Output: &log}),
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		n.run(ctx)
		if took := time.Since(begun); took != time.Minute {
			t.Errorf("it ended after %v", took)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "[WARN]  systemd not notified") {
			t.Errorf("the log:\n%s", got)
		}
	})
}
