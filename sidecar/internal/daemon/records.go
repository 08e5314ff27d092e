package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/history"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// Deployments is the body of /api/v1/deployments, and what `deploy status --json`
// prints.
type Deployments struct {
	Services []ServiceDeployments `json:"services"`
}

// ServiceDeployments are those of one service, the newest first.
type ServiceDeployments struct {
	Service     string          `json:"service"`
	Locked      bool            `json:"locked"` // a deployment is under way
	Problem     string          `json:"problem,omitempty"`
	Deployments []OneDeployment `json:"deployments"` // the newest first

	// What `pointsman deploy undo` would take back, and deploy; "" where it does nothing.
	UndoID      string `json:"undo_id,omitempty"`
	UndoVersion string `json:"undo_version,omitempty"`
}

// OneDeployment is a record, with what is known of its end.
type OneDeployment struct {
	history.Deployment
	State  history.State `json:"state"`
	TookMS int64         `json:"took_ms"`
}

// DeploymentsOf is the records as they are shown at now, which ends the time of those that
// are under way.
func DeploymentsOf(pages []history.Page, now time.Time) Deployments {
	out := Deployments{Services: []ServiceDeployments{}}
	for _, p := range pages {
		s := ServiceDeployments{Service: p.Service, Locked: p.IsLocked, Problem: p.Problem, Deployments: []OneDeployment{}}
		for i, d := range p.Deployments {
			one := OneDeployment{Deployment: d, State: d.StateOf(p.IsLocked && i == 0)} // the lock is the newest one's
			end := d.Ended
			if end.IsZero() {
				end = d.Updated
				if one.State == history.UnderWay {
					end = now
				}
			}
			one.TookMS = end.Sub(d.Started).Milliseconds()
			s.Deployments = append(s.Deployments, one)
		}
		if version, id, found := p.Before(); found && !p.IsLocked {
			s.UndoID, s.UndoVersion = id, version
		}
		out.Services = append(out.Services, s)
	}
	return out
}

// What was read of Consul is used for all who ask: for recordsFor, and for some times as
// long as it took. It takes no longer than recordsWithin.
const (
	recordsFor    = 500 * time.Millisecond
	recordsWithin = 10 * time.Second
)

// recordReader reads records of Consul for the API, within these bounds.
type recordReader struct {
	get  func(ctx context.Context) (any, error)
	rest time.Duration // how many times as long as a reading takes nothing is read

	mu    sync.Mutex
	until time.Time
	is    any
	err   error
}

func deploymentRecords(book *history.Book) *recordReader {
	return &recordReader{rest: 10, get: func(ctx context.Context) (any, error) {
		pages, err := book.All(ctx)
		return DeploymentsOf(pages, time.Now()), err
	}}
}

func (r *recordReader) read(ctx context.Context) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := time.Now()
	if begun.Before(r.until) {
		return r.is, r.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordsWithin) // others get the same answer
	defer cancel()
	r.is, r.err = r.get(ctx)
	now := time.Now()
	r.until = now.Add(max(recordsFor, r.rest*now.Sub(begun)))
	return r.is, r.err
}

// NewBook is the records of deployments in Consul. Its KV is closed by who has asked for it.
func NewBook(cfg config.Config) (*history.Book, error) {
	kv, err := consul.NewKV(ConsulOptions(cfg, hclog.NewNullLogger()))
	if err != nil {
		return nil, &SettingsError{err}
	}
	return &history.Book{KV: kv}, nil
}

// RolloutStore is the rollouts in Consul. Its KV is closed by who has asked for it.
func RolloutStore(cfg config.Config) (rollout.Store, error) {
	kv, err := consul.NewKV(ConsulOptions(cfg, hclog.NewNullLogger()))
	if err != nil {
		return rollout.Store{}, &SettingsError{err}
	}
	return rollout.Store{KV: kv}, nil
}

// Rollouts is what `rollout status --json` prints, and the body of /api/v1/rollouts.
type Rollouts struct {
	Rollouts []OneRollout `json:"rollouts"`
}

// OneRollout is the rollout of a service; without Document where there is none, or Problem
// says why it is none.
type OneRollout struct {
	Service  string            `json:"service"`
	Index    uint64            `json:"index"`             // of the key in Consul
	Problem  string            `json:"problem,omitempty"` // why the value is no document
	Document *rollout.Document `json:"document,omitempty"`
	Report   *rollout.Report   `json:"report,omitempty"` // of the current step, by the sidecar that leads

	Actions []rollout.Option `json:"actions,omitempty"` // what may be done with it; absent without a document
}

// ReadRollouts reads those of the services, or of all where none is named.
func ReadRollouts(ctx context.Context, store rollout.Store, services []string) (out Rollouts, err error) {
	out.Rollouts = []OneRollout{}
	if len(services) == 0 {
		if services, err = store.Services(ctx); err != nil {
			return out, err
		}
	}
	all := make([]OneRollout, min(len(services), maxRollouts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(rolloutsAtOnce)
	for i := range all {
		group.Go(func() (err error) {
			all[i], err = readRollout(ctx, store, services[i])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return out, err
	}
	out.Rollouts = append(out.Rollouts, slices.DeleteFunc(all, func(one OneRollout) bool { return one.Index == 0 })...)
	return out, nil
}

// The bounds of what is read of Consul for all services.
const (
	maxRollouts    = 5000
	rolloutsAtOnce = 8
)

// readRollout reads one; its Index is 0 where there is none.
func readRollout(ctx context.Context, store rollout.Store, service string) (one OneRollout, err error) {
	one.Service = service
	one.Document, one.Index, err = store.Read(ctx, service)
	if invalid, is := errors.AsType[*rollout.InvalidError](err); is {
		one.Problem = invalid.Error()
		return one, nil
	}
	if one.Document != nil {
		one.Actions = one.Document.Options()
		one.Report, _ = store.Report(ctx, one.Document) // for people: a token may lack key:read for it
	}
	return one, err
}

// rolloutRecords reads the rollouts for the API.
func rolloutRecords(store rollout.Store) *recordReader {
	return &recordReader{rest: 2, get: func(ctx context.Context) (any, error) { return ReadRollouts(ctx, store, nil) }}
}
