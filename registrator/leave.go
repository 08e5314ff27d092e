package registrator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
)

// drainWait is the step between the mark that says "leaving" and the program's
// stop: it returns when the load balancers have drained the program, or when
// it has waited long enough. mark is the time in the mark, as Consul has it.
type drainWait interface {
	await(ctx context.Context, mark string) error
}

// boundedWait gives Consul's watchers time to see the mark, and asks no sidecar.
type boundedWait struct{ wait time.Duration }

func (b boundedWait) await(ctx context.Context, _ string) error { return b.rest(ctx, time.Now()) }

// rest waits for what is left of the wait.
func (b boundedWait) rest(ctx context.Context, began time.Time) error {
	if cause := pause(ctx, time.Until(began.Add(b.wait))); cause != nil {
		return fmt.Errorf("wait of %v for the load balancers interrupted: %w", b.wait, cause)
	}
	return nil
}

// deregisterLimit bounds how long the deregistration is tried, on top of ctx.
const deregisterLimit = 5 * time.Second

// Leave takes the program away in the right order:
//
//  1. nothing registers it again from here on;
//  2. it is marked as leaving; its checks go on, and it keeps serving;
//  3. every load balancer that routes to it is asked whether it still has
//     sessions there, until each has drained it (Config.Sidecars);
//  4. stop is called with ctx: it must stop accepting and return once what is
//     in flight has been answered, as http.Server.Shutdown does;
//  5. it is deregistered.
//
// Each step is bounded, 2 and 3 together by LeaveTimeout. If Consul cannot be
// reached, step 2 is tried for LeaveWait and step 3 is left out, since no sidecar
// could have seen a mark. In step 3 a load balancer that cannot be asked gets
// LeaveWait, and so do all of them where none is registered or Consul does not
// say which there are. When ctx ends, what is left of 2 and 3 is cut short; stop
// is called in any case, with ctx, and 5 is tried for 5 seconds more.
//
// Where another process has registered under the ID by then, its registration is
// neither marked nor removed, and 2 and 3 are a wait of LeaveWait.
//
// That a load balancer could not be asked is no error, but a warning in the log;
// that one had not drained when the time was over is one.
//
// The error joins those of all the steps. A second Leave does nothing and
// returns ErrLeft. stop may be nil.
func (r *Registration) Leave(ctx context.Context, stop func(context.Context) error) error {
	sent, err := r.begin()
	if err != nil {
		return err
	}
	defer r.Close()
	var errs []error
	failed := func(step string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("registrator: leave %q: %s: %w", r.config.ID, step, err))
		}
	}
	if sent {
		r.drain(ctx, failed)
	}
	r.asked.leave() // whatever has become of the rest
	if stop != nil {
		r.log.Info("stopping")
		failed("stop", stop(ctx))
	}
	if sent {
		failed("deregister", r.deregister(ctx))
	}
	r.log.Info("left", "errors", len(errs))
	return errors.Join(errs...)
}

// drain is steps 2 and 3.
func (r *Registration) drain(ctx context.Context, failed func(step string, err error)) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.config.LeaveTimeout, fmt.Errorf("leave timeout of %v expired", r.config.LeaveTimeout))
	defer cancel()
	done := r.asked.leaveUnless(r.config.LeaveWait)
	since, err := r.mark(ctx)
	done()
	if err != nil || r.config.Sidecars.Off {
		r.asked.leave()
	}
	switch {
	case errors.Is(err, errOtherProcess):
		// No sidecar can be asked about this process: they know the ID as the other.
		r.log.Warn("ID taken by another process, waiting leave_wait", "wait", r.config.LeaveWait)
		failed("drain", boundedWait{r.config.LeaveWait}.rest(ctx, time.Now()))
	case err != nil:
		failed("mark", err)
	default:
		mark := r.config.said(since).Format()[contract.KeyDrain]
		failed("drain", r.wait.await(ctx, mark))
	}
}

// begin ends what registers the service. It reports whether Consul may know it.
// A call that is on its way to the agent is not cut off, for it might arrive
// after those that follow: they wait for it, by writing.
func (r *Registration) begin() (sent bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving {
		return false, ErrLeft
	}
	r.leaving = true
	r.watchdog.end()
	return r.sent, nil
}

// mark registers the service once more, as it is and with the time since when
// it leaves. The checks have the same IDs, and so keep their state. Where a
// call's fate is unknown it is sent again: the mark says the same each time.
func (r *Registration) mark(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.config.LeaveWait, fmt.Errorf("tried for %v", r.config.LeaveWait))
	defer cancel()
	since := time.Now()
	err := retry(ctx, func(ctx context.Context) error {
		return r.write(ctx, func(ctx context.Context) error {
			if r.isOtherProcess(ctx) {
				return errOtherProcess
			}
			return r.put(ctx, since)
		})
	}, nil)
	if err == nil {
		r.log.Info("marked as leaving", "since", since.UTC())
	}
	return since, err
}

// deregister takes the service out of Consul. That the agent does not know it
// is as good. It is tried even if ctx has ended: a program that is gone and
// registered costs requests. A registration of another process stays.
func (r *Registration) deregister(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), deregisterLimit, fmt.Errorf("tried for %v", deregisterLimit))
	defer cancel()
	return retry(ctx, func(ctx context.Context) error {
		return r.write(ctx, func(ctx context.Context) error {
			if r.isOtherProcess(ctx) {
				r.log.Warn("ID taken by another process, not deregistered")
				return nil
			}
			err := r.agent.ServiceDeregisterOpts(r.config.ID, (&api.QueryOptions{}).WithContext(ctx))
			if isNotFound(err) {
				return nil
			}
			return err
		})
	}, nil)
}
