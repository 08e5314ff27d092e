package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// leaders is where the locks are, one key for each service with a rollout under way.
const leaders consul.Folder = "pointsman/rollout-leaders/"

// How a leader leads.
const (
	moveEvery  = time.Second
	sessionTTL = 20 * time.Second
	renewEvery = 5 * time.Second
	askEvery   = 5 * time.Second // for a lock that another has
	lastCall   = 3 * time.Second
)

// Mover walks running rollouts up their steps. Of all sidecars one moves a service's: the
// one that holds its lock in Consul. When that one ends, another goes on from the same
// document. While Consul does not answer, nothing moves.
type Mover struct {
	KV      *consul.KV
	Name    string                                                                 // of this load balancer
	Running func() map[string]*Document                                            // the documents that run, by service
	Judge   func(ctx context.Context, service string, running *Document) Judgement // waits for nothing
	Forget  func(service string)                                                   // what Judge knows: it begins to lead
	Numbers func(service string) Numbers                                           // that Judge goes by; nil: there are none
	Now     func() time.Time
	Log     hclog.Logger

	session string
	renewed time.Time
	leads   map[string]bool
	asked   map[string]time.Time // for the lock of a service that another leads

	reported map[string]Report // by service, as last written
	said     string            // the last error, as logged
}

// errNothing says that no change is due.
var errNothing = errors.New("nothing is due")

// Run moves until ctx ends, and gives its locks back.
func (m *Mover) Run(ctx context.Context) error {
	defer m.KV.Close()
	defer m.resign(ctx)
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		err := m.move(ctx)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != m.said && ctx.Err() == nil {
			if consul.IsForbidden(err) {
				m.Log.Warn("rollout not moved: the Consul token needs key:write for pointsman/rollouts/ and pointsman/rollout-leaders/, and session:write", "error", err)
			} else {
				m.Log.Warn("rollout not moved", "error", err)
			}
		}
		m.said = text
	}
}

// move takes what is due for each service that this sidecar leads.
func (m *Mover) move(ctx context.Context) error {
	running := m.Running()
	if len(running) == 0 {
		m.resign(ctx)
		return nil
	}
	if err := m.hold(ctx); err != nil {
		return err
	}
	var errs []error
	for _, service := range slices.Sorted(maps.Keys(running)) {
		errs = append(errs, m.moveOne(ctx, service, running[service]))
	}
	return errors.Join(errs...)
}

func (m *Mover) moveOne(ctx context.Context, service string, known *Document) error {
	if !m.leads[service] {
		if at, is := m.asked[service]; is && m.Now().Sub(at) < askEvery {
			return nil
		}
		value, err := json.Marshal(Report{Leader: m.Name, StepAt: known.StepAt})
		if err != nil {
			return err
		}
		isDone, err := m.KV.Acquire(ctx, leaderKey(service), value, m.session)
		if err != nil {
			return err
		}
		if m.asked[service] = m.Now(); !isDone {
			return nil
		}
		m.leads[service] = true
		m.Forget(service)
		m.Log.Info("leading rollout", "service", service, "canary", catalog.Printable(known.Canary))
	}
	at := m.Now().UTC().Truncate(time.Millisecond)
	judgement := m.Judge(ctx, service, known)
	if err := m.report(ctx, service, known, judgement); err != nil {
		return err
	}
	if known.Next(Author{m.Name, at}, judgement) == nil {
		return nil
	}
	_, err := Store{m.KV}.Change(ctx, service, false, func(d *Document) (*Document, error) {
		// What was read now decides: it may have been paused or moved since.
		if n := d.Next(Author{m.Name, at}, m.Judge(ctx, service, d)); n != nil {
			return n, nil
		}
		return nil, errNothing
	})
	if _, isChanged := errors.AsType[*ChangedError](err); isChanged || errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// hold keeps the session. One that cannot be renewed may be another's by now: then this
// sidecar leads nothing.
func (m *Mover) hold(ctx context.Context) error {
	now := m.Now()
	if m.session != "" && now.Sub(m.renewed) < renewEvery {
		return nil
	}
	if m.session != "" {
		isThere, err := m.KV.Renew(ctx, m.session)
		if err == nil && isThere {
			m.renewed = now
			return nil
		}
		if err != nil && now.Sub(m.renewed) < sessionTTL {
			return err
		}
		m.session, m.leads = "", nil
		if err != nil {
			return err
		}
	}
	session, err := m.KV.NewSession(ctx, "pointsman rollouts "+m.Name, sessionTTL)
	if err != nil {
		return err
	}
	m.session, m.renewed, m.leads, m.asked, m.reported = session, now, map[string]bool{}, map[string]time.Time{}, map[string]Report{}
	return nil
}

// resign ends the session, which gives back the locks.
func (m *Mover) resign(ctx context.Context) {
	if m.session == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCall)
	defer cancel()
	_ = m.KV.End(ctx, m.session) // else it expires
	m.session, m.leads = "", nil
}
