package haproxy

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"time"
)

// On each reload the master executes itself again. Until it listens again, its
// socket refuses connections. Connections that it had accepted are closed, without
// an answer or in the middle of one. The workers serve meanwhile.
//
// Measured on two busy processors: 0.1 to 0.6 s on 2.6 to 3.4. On 2.6 and 3.0 it
// takes 2.2 s if an address in the file is in use: the master tries it for 2 s.

// restartGrace is how long a master may not answer before it counts as gone.
const restartGrace = 5 * time.Second

// workerGrace is the same while the runtime socket refuses connections too. Most
// often HAProxy has ended then. Only on 3.1 and newer does a worker serve behind
// a dead runtime socket, and there the restart takes 0.2 s, also with 10,000 servers.
const workerGrace = time.Second

// isRefused reports whether nothing was sent, because no process listens.
func isRefused(err error) bool { return errors.Is(err, ErrConnRefused) }

// isCutOff reports whether a connection ended before its answer did.
func isCutOff(err error) bool {
	return errors.Is(err, errCutOff) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isRestart reports whether the error may come from a master that restarts.
func isRestart(err error) bool { return isRefused(err) || isCutOff(err) }

// overRestart calls ask until its error is not that of a restart, for at most
// grace. After that the master counts as gone, and ask is called once only, until
// the master answers.
func (c *Client) overRestart(ctx context.Context, grace time.Duration, mayBeRestart func(error) bool, ask func() error) error {
	began := time.Now()
	for poll := firstPoll; ; poll = min(2*poll, lastPoll) {
		err := ask()
		if !mayBeRestart(err) {
			c.transition(&c.masterGone, false)
			return err
		}
		if c.isMasterGone() {
			return err
		}
		if time.Since(began) >= grace {
			c.transition(&c.masterGone, true)
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(poll):
		}
	}
}

// awaitMaster asks the master for its workers, and waits for a restart.
func (c *Client) awaitMaster(ctx context.Context) (p processes, err error) {
	err = c.overRestart(ctx, restartGrace, isRestart, func() error {
		p, err = c.showProc(ctx)
		return err
	})
	return p, err
}

// oldWorker asks an old worker, and waits for a restart of the master. The commands may
// be executed twice.
func (c *Client) oldWorker(pid int) asker {
	return func(ctx context.Context, commands []string) (reply string, err error) {
		err = c.overRestart(ctx, restartGrace, isRestart, func() error {
			reply, err = c.askMaster(ctx, "@!"+strconv.Itoa(pid), commands)
			if err == nil {
				_, err = eachReply(reply, len(commands))
			}
			return err
		})
		return reply, err
	}
}

func (c *Client) isMasterGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.masterGone
}
