package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// bench is the measurement of one row.
type bench struct {
	cfg    config
	lab    *lab.Lab
	result *Result
	began  time.Time
	binary string // the sidecar's, for its profile
	consul string // Consul's program
}

// measureRow measures one row with processes of its own, all of which have
// ended when it returns.
func measureRow(ctx context.Context, cfg config, programs lab.Programs, r row) (result Result, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, fmt.Errorf("not within %s", r.limit))
	defer cancel()
	machine, err := thisMachine(ctx, programs)
	if err != nil {
		return Result{}, err
	}
	l, err := lab.New(lab.Config{Programs: programs, Log: io.Discard})
	if err != nil {
		return Result{}, err
	}
	result = Result{Row: r.name, Title: r.title, At: time.Now().UTC().Truncate(time.Second), Machine: machine, Runs: cfg.runs}
	b := &bench{cfg: cfg, lab: l, result: &result, began: time.Now(), binary: programs.Sidecar, consul: programs.Consul}
	err = r.measure(ctx, b)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w\n%s", err, l.Tails(8))
	} else if err != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	err = errors.Join(err, l.Close())
	if err == nil {
		result.Machine.LoadAfter, err = load()
	}
	return result, err
}

// step prints what is done now.
func (b *bench) step(format string, args ...any) {
	fmt.Fprintf(b.cfg.log, "  %5.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) wantsProfile() bool {
	return b.cfg.profile == "always" || b.cfg.profile == "missed" && b.result.missed()
}
