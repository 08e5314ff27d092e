package haproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrNoMaster says that what was asked needs a master socket, and none is set.
var ErrNoMaster = errors.New("haproxy: no master socket is set")

// OldWorkers lists the workers that finish what they have, by their PIDs: those that the
// master calls old and that do not serve. It needs a master socket.
func (c *Client) OldWorkers(ctx context.Context) ([]int, error) {
	if c.master == (endpoint{}) {
		return nil, ErrNoMaster
	}
	current, _, err := infoAnd(ctx, repeated(c.ask), "old workers")
	if err != nil {
		return nil, err
	}
	workers, err := c.oldWorkers(ctx, current.pid)
	c.noteMaster(err)
	return workers, err
}

// noteMaster logs a master that cannot be asked beside a worker that answers, such as one
// of a HAProxy that was started without -S. A deadline is no news: a master does not
// answer while it reads a large file.
func (c *Client) noteMaster(err error) {
	isAway := slices.ContainsFunc([]error{ErrNoSocket, ErrConnRefused, ErrPermission, ErrUnexpectedReply}, func(e error) bool { return errors.Is(err, e) })
	if err != nil && !isAway || !c.transition(&c.masterAway, isAway) {
		return
	}
	if isAway {
		c.log.Warn("master socket unusable, old workers are not seen", "error", err)
		return
	}
	c.log.Info("master socket recovered")
}

// oldWorkers leaves out the current one where the master has no other: since 3.1
// it lists the worker that serves under the old ones after a failed reload. Where
// it has another, a reload came after the current one was asked, and that is old.
func (c *Client) oldWorkers(ctx context.Context, current int) ([]int, error) {
	processes, err := c.awaitMaster(ctx)
	if err != nil {
		return nil, err
	}
	if len(processes.workers) > 0 {
		return processes.old, nil
	}
	return slices.DeleteFunc(processes.old, func(pid int) bool { return pid == current }), nil
}

// showProc asks the master once; see awaitMaster.
func (c *Client) showProc(ctx context.Context) (processes, error) {
	reply, err := c.tellMaster(ctx, "show proc", c.timeout)
	if err != nil {
		return processes{}, err
	}
	p, err := parseProc(reply)
	if err != nil {
		return processes{}, fmt.Errorf("haproxy: master socket %s: %w", c.master, err)
	}
	return p, nil
}
