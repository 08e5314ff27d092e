package haproxy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	for _, pid := range workers {
		ended, err := shutdownIn(ctx, c.oldWorker(pid), step)
		if err != nil && !errors.Is(err, errNoWorker) {
			errs = append(errs, fmt.Errorf("haproxy: shutdown sessions in old worker %d: %w", pid, err))
		}
		if step.Sessions > 0 {
			if step.Sessions -= ended; step.Sessions <= 0 {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// shutdownSome ends as many sessions as the step says: of the current worker, and where
// that has fewer, of old ones.
func (c *Client) shutdownSome(ctx context.Context, step plan.Step) error {
	at := step.Backend + "/" + step.Server
	// 3.2 and newer list those of the server only, older ones list all (docs/haproxy-facts.md,
	// fact 40).
	text, err := c.ask(ctx, []string{"show sess server " + at})
	if err != nil {
		return fmt.Errorf("haproxy: list sessions of %s: %w", at, err)
	}
	ids := sessionsOn(text, step.Backend, map[string]bool{step.Server: true})
	ids = ids[:min(len(ids), step.Sessions)]
	if err := endSessions(ctx, c.ask, ids); err != nil {
		return fmt.Errorf("haproxy: shutdown sessions of %s: %w", at, err)
	}
	if step.Sessions -= len(ids); step.Sessions == 0 {
		return nil
	}
	return c.shutdownOld(ctx, step)
}

// shutdownIn ends an old worker's sessions at the step's address, as many as the step says,
// and gives how many.
func shutdownIn(ctx context.Context, ask asker, step plan.Step) (ended int, err error) {
	view, err := readWorker(ctx, ask, []string{step.Backend}, maxCommandsOld)
	if err != nil {
		return 0, err
	}
	servers := map[string]bool{}
	for _, s := range view.backends[step.Backend] {
		if s.addr == step.Addr && s.sessions+s.queued > 0 {
			servers[s.serverState.name] = true
		}
	}
	if len(servers) == 0 {
		return 0, nil
	}
	text, err := ask(ctx, []string{"show sess"})
	if err != nil {
		return 0, err
	}
	ids := sessionsOn(text, step.Backend, servers)
	if step.Sessions > 0 {
		ids = ids[:min(len(ids), step.Sessions)]
	}
	return len(ids), endSessions(ctx, ask, ids)
}

// endSessions ends single sessions, several with one line.
func endSessions(ctx context.Context, ask asker, ids []string) error {
	for some := range slices.Chunk(ids, maxCommandsOld) {
		commands := make([]string, len(some))
		for i, id := range some {
			commands[i] = "shutdown session " + id
		}
		text, err := ask(ctx, commands)
		if err != nil {
			return err
		}
		replies, err := eachReply(text, len(commands))
		for _, reply := range replies {
			err = errors.Join(err, sessionEnded(tidy(reply)))
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

// sessionsOn returns the sessions on some servers of a backend.
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
