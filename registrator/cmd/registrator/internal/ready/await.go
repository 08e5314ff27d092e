package ready

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Config says what must be so, and how it is asked.
type Config struct {
	// Places are where the program may be. It is ready when all checks of one of
	// them pass.
	Places  [][]Check
	Every   time.Duration // between two rounds; default 100 ms
	Timeout time.Duration // of one check; default 1 s
	Logger  hclog.Logger  // default: none
}

// Await probes until all checks of a place pass, and gives the place; or ctx
// ends: the error then has ctx's cause and what was wrong last. It logs when the
// reason changes, and not each time.
func Await(ctx context.Context, c Config) (place int, err error) {
	if c.Every <= 0 {
		c.Every = 100 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	began, hinted := time.Now(), false
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	p := newProber(c.timeout())
	var was error
	for {
		place, err := p.any(ctx, c.Places)
		switch {
		case isOver(ctx):
			return 0, ended(ctx, was)
		case err == nil:
			c.Logger.Info("program ready", "after", time.Since(began).Round(time.Millisecond))
			return place, nil
		case was == nil || kind(err) != kind(was):
			c.Logger.Info("program not ready", "reason", err)
		case !hinted && time.Since(began) >= hintAfter:
			hinted = true
			c.Logger.Warn("program still not ready, does it need --address", "after", hintAfter, "reason", err)
		}
		was = err
		select {
		case <-ctx.Done():
			return 0, ended(ctx, was)
		case <-tick.C:
		}
	}
}

// hintAfter is the time without readiness after which the settings may be
// wrong.
const hintAfter = 10 * time.Second

// isOver reports whether ctx has ended. A connection that is being made ends with
// ctx's deadline on a clock of its own, which may be ahead.
func isOver(ctx context.Context) bool {
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// ended says why ctx has ended, and what was wrong until then, if anything was.
func ended(ctx context.Context, was error) error {
	if was == nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), was)
}

// Passes reports whether all checks of a place pass now. It takes no longer than
// Timeout for each.
func Passes(ctx context.Context, c Config) bool {
	_, err := newProber(c.timeout()).any(ctx, c.Places)
	return err == nil
}

func (c Config) timeout() time.Duration {
	if c.Timeout <= 0 {
		return time.Second
	}
	return c.Timeout
}

// kind tells reasons apart: the status of an answer, or 0 for none. The text
// would not do, since it may hold a port that changes each time.
func kind(err error) int {
	if status, ok := errors.AsType[statusError](err); ok {
		return int(status)
	}
	return 0
}
