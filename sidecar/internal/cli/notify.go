package cli

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// notify tells systemd when the sidecar is ready and when it stops, where
// systemd has started it (sd_notify(3)).
func notify(ctx context.Context, a *reconcile.Agent) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !a.State().Ready {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
	}
	sent, err := systemd.SdNotify(false, systemd.SdNotifyReady)
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	if !sent {
		return nil // systemd has not started us
	}
	<-ctx.Done()
	_, err = systemd.SdNotify(false, systemd.SdNotifyStopping)
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
