package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// MaintenanceSwitch takes one load balancer out of rotation and brings it back.
type MaintenanceSwitch struct {
	Name     string
	Haproxy  rotation
	Backends []string // the services'
	File     string   // path of haproxy.cfg
	Read     func(path string) ([]byte, error)
	Quiet    time.Duration // without a new request for this time, no client sends here any more
}

// rotation is what maintenance needs of HAProxy.
type rotation interface {
	SetMaintenance(ctx context.Context, on bool) error
	// Maintenance tells also which worker says so.
	Maintenance(ctx context.Context) (on bool, pid int, err error)
	Traffic(ctx context.Context, backends []string) (haproxy.Traffic, error)
}

// Maintenance is what came of a command.
type Maintenance struct {
	LoadBalancer string `json:"load_balancer"`
	Maintenance  bool   `json:"maintenance"`
	UnderWay     int    `json:"under_way"` // requests, in TCP mode connections
	// Quiet is set once nothing was under way and no client sent anything for a
	// while; it is waited for by "on".
	Quiet bool `json:"quiet"`
	// InFile is whether haproxy.cfg says the same; absent where it cannot be
	// read here.
	InFile *bool   `json:"in_file,omitempty"`
	Waited float64 `json:"waited_seconds"`

	wanted   bool  // both of them were waited for
	fileOnly bool  // only the file was
	pid      int   // the worker that was seen to have it
	unseen   error // why HAProxy was not seen to have it
	trouble  error
}

// On takes it out of rotation and waits until it is quiet.
func (m *MaintenanceSwitch) On(ctx context.Context, wait time.Duration) (Maintenance, error) {
	if err := m.set(ctx, true, wait == 0); err != nil {
		return Maintenance{}, err
	}
	return m.await(ctx, wait, Maintenance{LoadBalancer: m.Name, Maintenance: true, wanted: wait > 0})
}

// Off brings it back.
func (m *MaintenanceSwitch) Off(ctx context.Context, wait time.Duration) (Maintenance, error) {
	return m.change(ctx, false, wait)
}

// change waits only until haproxy.cfg says the same.
func (m *MaintenanceSwitch) change(ctx context.Context, on bool, wait time.Duration) (Maintenance, error) {
	if err := m.set(ctx, on, wait == 0); err != nil {
		return Maintenance{}, err
	}
	return m.await(ctx, wait, Maintenance{LoadBalancer: m.Name, Maintenance: on, wanted: wait > 0, fileOnly: true})
}

// maintainer is what the API asks.
func maintainer(cfg config.Config, p rotation) api.SetMaintenance {
	m := &MaintenanceSwitch{Name: cfg.Name, Haproxy: p, File: cfg.HAProxy.Config, Read: render.ReadRegular}
	return func(ctx context.Context, on bool) (bool, error) {
		result, err := m.change(ctx, on, maintenanceWait)
		if errors.Is(err, haproxy.ErrNoRotation) {
			return false, fmt.Errorf("%w: %w", ErrNoAnswer, err)
		}
		return true, errors.Join(err, result.Failure())
	}
}

// maintenanceWait is how long an action of the API waits for haproxy.cfg.
const maintenanceWait = 10 * time.Second

// set sends the command. Where nothing is waited for it looks once whether the worker
// that serves has it: a reload may have brought another one meanwhile, which gets the
// command, too.
func (m *MaintenanceSwitch) set(ctx context.Context, on, look bool) error {
	for range 2 {
		if err := m.Haproxy.SetMaintenance(ctx, on); err != nil || !look {
			return err
		}
		if now, _, err := m.Haproxy.Maintenance(ctx); err != nil || now == on {
			return err
		}
	}
	return fmt.Errorf("%s: not %s: %w", m.Name, Maintenance{Maintenance: on}.state(), errOtherCommand)
}

// Status asks once.
func (m *MaintenanceSwitch) Status(ctx context.Context) (Maintenance, error) {
	on, _, err := m.Haproxy.Maintenance(ctx)
	if err != nil {
		return Maintenance{}, err
	}
	return m.await(ctx, 0, Maintenance{LoadBalancer: m.Name, Maintenance: on})
}

// await looks until all has come to pass that is waited for, or the wait is
// over. What cannot be read meanwhile, as for a moment during a reload, is
// tried again.
func (m *MaintenanceSwitch) await(ctx context.Context, wait time.Duration, result Maintenance) (Maintenance, error) {
	began := time.Now()
	var since lull
	for {
		again, err := m.keep(ctx, &result)
		if errors.Is(err, errOtherCommand) {
			return result, err
		}
		if again {
			since = lull{}
		}
		result.unseen = err
		var traffic haproxy.Traffic
		if err == nil {
			traffic, err = m.Haproxy.Traffic(ctx, m.Backends)
		}
		now := time.Now()
		if err == nil {
			result.UnderWay, result.Quiet = traffic.UnderWay, since.look(now, traffic) >= m.Quiet
		}
		result.trouble = err
		result.InFile = m.inFile(result.Maintenance)
		result.Waited = now.Sub(began).Round(time.Millisecond).Seconds()
		if result.Failure() == nil || now.Sub(began) >= wait || ctx.Err() != nil {
			if wait == 0 && err != nil {
				return result, err
			}
			return result, ctx.Err()
		}
		Sleep(ctx, min(100*time.Millisecond, wait-now.Sub(began)))
	}
}

var errOtherCommand = errors.New("another command has changed it meanwhile")

// keep sets what is wanted again in another worker: one that a reload has started
// knows only what its file said, before the command. In the same worker someone else
// has decided otherwise, and the last command counts.
func (m *MaintenanceSwitch) keep(ctx context.Context, wanted *Maintenance) (again bool, err error) {
	if !wanted.wanted {
		return false, nil
	}
	on, pid, err := m.Haproxy.Maintenance(ctx)
	switch {
	case err != nil:
		return false, err
	case on == wanted.Maintenance:
		wanted.pid = pid
		return false, nil
	case pid == wanted.pid:
		return false, errOtherCommand
	}
	return true, m.Haproxy.SetMaintenance(ctx, wanted.Maintenance)
}

// inFile reports whether haproxy.cfg says the same as HAProxy, or nil.
func (m *MaintenanceSwitch) inFile(on bool) *bool {
	content, err := m.Read(m.File)
	if err != nil {
		return nil
	}
	same := plan.MaintenanceIn(string(content)) == on
	return &same
}

// lull measures for how long nothing was under way and nothing began.
type lull struct {
	since time.Time // zero: not now
	begun uint64
}

func (l *lull) look(now time.Time, t haproxy.Traffic) time.Duration {
	if t.UnderWay > 0 || t.Begun != l.begun || l.since.IsZero() {
		l.since, l.begun = now, t.Begun
	}
	return now.Sub(l.since)
}

// Failure is why the command has not come to its end, or nil.
func (m Maintenance) Failure() error {
	if !m.wanted {
		return nil
	}
	var errs []error
	switch {
	case m.unseen != nil:
		errs = append(errs, m.unseen)
	case m.fileOnly:
	case m.trouble != nil:
		errs = append(errs, m.trouble)
	case m.UnderWay > 0:
		errs = append(errs, fmt.Errorf("%s is in maintenance, but %d requests are still in flight", m.LoadBalancer, m.UnderWay))
	case !m.Quiet:
		errs = append(errs, fmt.Errorf("%s is in maintenance, but still receives requests", m.LoadBalancer))
	}
	if m.InFile != nil && !*m.InFile {
		errs = append(errs, fmt.Errorf("%s: haproxy.cfg is not updated yet, so a restarted HAProxy would not come back %s: is the sidecar running?", m.LoadBalancer, m.state()))
	}
	return errors.Join(errs...)
}

func (m Maintenance) state() string {
	if m.Maintenance {
		return "in maintenance"
	}
	return "in rotation"
}

// String is the result for people.
func (m Maintenance) String() string {
	words := []string{fmt.Sprintf("%s is %s; requests in flight: %d", m.LoadBalancer, m.state(), m.UnderWay)}
	if m.Quiet {
		words = append(words, "no new requests")
	}
	switch {
	case m.InFile == nil:
		words = append(words, "haproxy.cfg cannot be read")
	case *m.InFile:
		words = append(words, "haproxy.cfg agrees")
	default:
		words = append(words, "haproxy.cfg differs")
	}
	return strings.Join(words, "; ") + "."
}

// Sleep waits, or less if the context ends.
func Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
