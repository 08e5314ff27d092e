package haproxy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// shutdownOld ends the sessions that old workers have at the step's address. A
// server's name may mean another address there, so it is the address that is
// looked for, as the sessions are counted (addOldSessions).
//
// An old worker answers `shutdown sessions server` with "Proxy is disabled."
// (seen on 2.6 to 3.4), so each session is looked up and ended by itself.
func (c *Client) shutdownOld(ctx context.Context, step plan.Step) error {
	if c.master == (endpoint{}) {
		return nil
	}
	workers, err := c.OldWorkers(ctx)
	if err != nil {
		return fmt.Errorf("haproxy: shutdown sessions in old workers: %w", err)
	}
	var errs []error
	for _, w := range workers {
		if err := c.shutdownIn(ctx, w, step); err != nil && !errors.Is(err, errNoWorker) {
			errs = append(errs, fmt.Errorf("haproxy: shutdown sessions in old worker %d: %w", w.PID, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Client) shutdownIn(ctx context.Context, w Worker, step plan.Step) error {
	ask := func(ctx context.Context, commands ...string) (string, error) {
		return c.askOldWorker(ctx, w, commands)
	}
	view, err := readWorker(ctx, func(ctx context.Context, commands []string) (string, error) {
		return ask(ctx, commands...)
	}, []string{step.Backend}, maxCommandsOld)
	if err != nil {
		return err
	}
	servers := map[string]bool{}
	for _, s := range view.backends[step.Backend] {
		if s.addr == step.Addr && s.sessions+s.queued > 0 {
			servers[s.serverState.name] = true
		}
	}
	if len(servers) == 0 {
		return nil
	}
	text, err := ask(ctx, "show sess")
	if err != nil {
		return err
	}
	for _, id := range sessionsOn(text, step.Backend, servers) {
		reply, err := ask(ctx, "shutdown session "+id)
		if err == nil {
			err = sessionEnded(tidy(reply))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// session is a line of `show sess` (management manual, "show sess"): where the
// session is in memory, and between much else its backend and server.
var session = regexp.MustCompile(`^(0x[0-9a-f]+): .* be=(\S+) srv=(\S+) `)

// sessionsOn gives the sessions on some servers of a backend.
func sessionsOn(text, backend string, servers map[string]bool) (ids []string) {
	for line := range strings.Lines(text) {
		if m := session.FindStringSubmatch(line); len(m) > 0 && m[2] == backend && servers[m[3]] {
			ids = append(ids, m[1])
		}
	}
	return ids
}

// sessionEnded takes it that a session has ended by itself meanwhile.
func sessionEnded(reply string) error {
	if strings.HasPrefix(reply, "No such session") {
		return nil
	}
	return silent(reply)
}
