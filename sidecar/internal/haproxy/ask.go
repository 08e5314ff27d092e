package haproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Ask sends one command to the current worker, with what belongs to it after "<<", and
// gives its answer.
func (c *Client) Ask(ctx context.Context, command string) (string, error) {
	return c.ask(ctx, []string{command})
}

// ask sends one line of commands to the current worker and gives its whole
// answer. It goes through the runtime socket, or, where nothing listens there,
// through the master: since 3.1 a reload that fails to bind leaves the runtime
// socket dead though the worker behind it still serves (docs/haproxy-facts.md, fact 5).
func (c *Client) ask(ctx context.Context, commands []string) (string, error) {
	reply, err := c.askRuntime(ctx, commands)
	if err == nil {
		c.noteWay(false)
		return reply, nil
	}
	switch {
	case !errors.Is(err, plan.ErrNotRunning):
		return reply, err
	case c.master == (endpoint{}):
		return reply, withoutMaster(err)
	}
	viaMaster, masterErr := c.askCurrentWorker(ctx, commands)
	switch {
	case isUnheard(masterErr), errors.Is(masterErr, plan.ErrNotRunning):
		return "", errors.Join(err, masterErr)
	case masterErr != nil: // without err: that one says that nothing runs
		return viaMaster, masterErr
	}
	c.noteWay(true)
	return viaMaster, nil
}

// withoutMaster says of a runtime socket that does not answer what a master socket would
// tell.
func withoutMaster(err error) error {
	return fmt.Errorf("%w; haproxy.master_socket is not set, so a HAProxy without its runtime socket cannot be found", err)
}

// askRuntime sends a line to the runtime socket. The error wraps
// plan.ErrNotRunning if nothing listens there.
func (c *Client) askRuntime(ctx context.Context, commands []string) (string, error) {
	reply, err := c.exchange(ctx, c.runtime, strings.Join(commands, "; "), false, c.timeout)
	if err == nil {
		return reply, nil
	}
	if dial, ok := errors.AsType[*dialFailure](err); ok {
		err = dialError("runtime socket", c.runtime, dial.err)
		if isUnheard(err) {
			err = fmt.Errorf("%w: %w", err, plan.ErrNotRunning)
		}
		return "", err
	}
	return reply, fmt.Errorf("haproxy: runtime socket %s: %w", c.runtime, err)
}

// repeated is ask for lines that may be sent twice: since 3.1 a reload may close a
// connection that the old worker has not taken yet, and the line is sent once more.
func repeated(ask asker) asker {
	return func(ctx context.Context, commands []string) (string, error) {
		reply, err := ask(ctx, commands)
		whole := err
		if whole == nil {
			_, whole = eachReply(reply, len(commands))
		}
		if isCutOff(whole) {
			return ask(ctx, commands)
		}
		return reply, err
	}
}

// noteWay logs when the way to the worker changes.
func (c *Client) noteWay(byMaster bool) {
	if !c.transition(&c.byMaster, byMaster) {
		return
	}
	if byMaster {
		c.log.Warn("runtime socket refused, using master socket", "runtime", c.runtime.String(), "master", c.master.String())
		return
	}
	c.log.Info("runtime socket connected again", "runtime", c.runtime.String())
}

// currentWorker is the prefix by which the master sends a command to the
// worker that serves.
const currentWorker = "@1"

// noTarget begins the master's answer when it has no such worker.
const noTarget = "Can't find the target"

// errNoWorker: the master has no such worker (any more).
var errNoWorker = errors.New("master has no such worker")

// askCurrentWorker asks by way of the master, and waits for one that starts
// itself again, if HAProxy has been seen: else it would seem to have ended.
func (c *Client) askCurrentWorker(ctx context.Context, commands []string) (reply string, err error) {
	grace := workerGrace
	if _, known := c.known(); !known {
		grace = 0
	}
	err = c.overRestart(ctx, grace, isRefused, func() error {
		reply, err = c.askMaster(ctx, currentWorker, commands)
		return err
	})
	return reply, err
}

// askMaster sends a line of commands through the master to one worker: target
// is "@1" or "@!<pid>". The prefix binds to one command only, so each gets it.
func (c *Client) askMaster(ctx context.Context, target string, commands []string) (string, error) {
	prefixed := make([]string, len(commands))
	for i, command := range commands {
		prefixed[i] = target + " " + command
	}
	reply, err := c.tellMaster(ctx, strings.Join(prefixed, "; "), c.timeout)
	if err != nil {
		return reply, err
	}
	if strings.Contains(reply, noTarget) {
		err = fmt.Errorf("haproxy: master socket %s: %s: %w", c.master, target, errNoWorker)
		if target == currentWorker {
			err = fmt.Errorf("%w: %w", err, plan.ErrNotRunning)
		}
		return "", err
	}
	return reply, nil
}

// tellMaster sends one line to the master itself.
func (c *Client) tellMaster(ctx context.Context, line string, timeout time.Duration) (string, error) {
	reply, err := c.exchange(ctx, c.master, line, true, timeout)
	if err == nil {
		return reply, nil
	}
	if dial, ok := errors.AsType[*dialFailure](err); ok {
		return "", dialError(masterSocket, c.master, dial.err)
	}
	return reply, fmt.Errorf("haproxy: master socket %s: %w", c.master, err)
}
