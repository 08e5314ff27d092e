package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// notifier tells systemd how the sidecar does, where systemd has started it
// (sd_notify(3)): ready, reloading, stopping, a line for `systemctl status`, and
// the watchdog's keep-alive.
type notifier struct {
	state func() *reconcile.State
	alive func() error
	log   hclog.Logger

	failed sync.Once // so that a failure is logged once

	mu     sync.Mutex
	ready  bool   // READY=1 was sent
	status string // the last STATUS
}

// notifyPace is how often the notifier looks for something to tell.
const notifyPace = 50 * time.Millisecond

// run tells until ctx ends. Where systemd has not started the sidecar it returns
// at once. What cannot be told is no reason to end: the socket may be that of a
// service manager which is gone, in a variable that the sidecar has inherited.
func (n *notifier) run(ctx context.Context) {
	watchdog, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		n.fails(fmt.Errorf("notify systemd: %w", err))
	}
	if sent, err := notify("STATUS=starting"); err != nil {
		n.fails(err)
	} else if !sent {
		return
	}
	look := time.NewTicker(notifyPace)
	defer look.Stop()
	var fed time.Time
	var seen *reconcile.State
	for {
		if s := n.state(); s != seen {
			seen = s
			n.fails(n.tell(s))
		}
		if watchdog > 0 && time.Since(fed) >= watchdog/3 && n.alive() == nil {
			fed = time.Now()
			_, err := notify(systemd.SdNotifyWatchdog)
			n.fails(err)
		}
		select {
		case <-ctx.Done():
			_, err := notify(systemd.SdNotifyStopping, "STATUS=stopping, HAProxy keeps running")
			n.fails(err)
			return
		case <-look.C:
		}
	}
}

// fails logs the first failure.
func (n *notifier) fails(err error) {
	if err != nil {
		n.failed.Do(func() { n.log.Warn("systemd not notified", "error", err) })
	}
}

// tell tells what is new of a state.
func (n *notifier) tell(s *reconcile.State) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	if s.Ready && !n.ready {
		n.ready = true
		lines = append(lines, systemd.SdNotifyReady)
	}
	text := s.Summary()
	if !s.Ready && s.NotReady != "" {
		text += ": " + strings.ReplaceAll(s.NotReady, "\n", " ")
	}
	if text != n.status {
		n.status = text
		lines = append(lines, "STATUS="+text)
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := notify(lines...)
	return err
}

// reloading tells systemd that the settings are read again, and calls read
// meanwhile. Before the sidecar is ready there is nothing that systemd expects.
func (n *notifier) reloading(read func()) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready {
		read()
		return nil
	}
	_, err := notify(systemd.SdNotifyReloading, systemd.SdNotifyMonotonicUsec())
	read()
	if err == nil {
		_, err = notify(systemd.SdNotifyReady)
	}
	return err
}

// notify sends lines to systemd, and reports whether it has started us.
func notify(lines ...string) (bool, error) {
	sent, err := systemd.SdNotify(false, strings.Join(lines, "\n"))
	if err != nil {
		return sent, fmt.Errorf("notify systemd: %w", err)
	}
	return sent, nil
}
