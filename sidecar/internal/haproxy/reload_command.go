package haproxy

import (
	"bytes"
	"context"
	"os/exec"
	"time"
)

// maxOutput bounds what is kept of a reload command's output.
const maxOutput = 32 << 10

// commandGrace is how long a reload command's children may hold its output
// open after it has ended or was stopped.
const commandGrace = 2 * time.Second

// reloadByCommand runs the operator's command. Its success is no proof: a new
// worker is waited for all the same. That none will come, a master that can be
// asked tells before the time is over.
func (c *Client) reloadByCommand(ctx context.Context) (requested, error) {
	failed := func() error { return nil }
	if c.master != (endpoint{}) {
		if before, err := c.awaitMaster(ctx); err == nil {
			failed = func() error { return c.masterFailed(ctx, before) }
		}
	}
	cmd := exec.CommandContext(ctx, c.reloadCommand[0], c.reloadCommand[1:]...) //nolint:gosec // the operator's own setting
	cmd.WaitDelay = commandGrace
	var output boundedBuffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return requested{}, &ReloadError{Reason: "command " + c.reloadCommand[0], Log: logLines(output.String()), Err: err}
	}
	return requested{failed: failed}, nil
}

// boundedBuffer keeps the first maxOutput bytes and drops the rest.
type boundedBuffer struct{ buf bytes.Buffer }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if room := maxOutput - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *boundedBuffer) String() string { return b.buf.String() }
