package registrator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
)

// processOwner is the owner of what this process registers.
var processOwner = sync.OnceValue(rand.Text)

// ProcessOwner is the owner of what this process registers, unless Config.Owner
// says another.
func ProcessOwner() string { return processOwner() }

// errOtherProcess says that another process is registered under the ID.
var errOtherProcess = errors.New("another process is registered under this ID")

// owner is what the registration says about whose it is.
func (r *Registration) owner() contract.Owner {
	r.mu.Lock()
	defer r.mu.Unlock()
	return contract.Owner{Token: r.config.Owner, Since: r.since}
}

// setSince moves the time that the registration says, by a second at least.
func (r *Registration) setSince(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if next := r.since.Add(time.Second); now.Before(next) {
		now = next
	}
	r.since = now
}

// held returns what the agent has under the ID, or nil for nothing.
func (r *Registration) held(ctx context.Context) (*api.AgentService, error) {
	now, _, err := r.agent.Service(r.config.ID, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case isNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case now == nil || now.ID != r.config.ID:
		return nil, errors.New("the agent's answer is about another service")
	}
	return now, nil
}

// owns reports whether a registration under the ID is this process's. One that
// says no owner is, at this process's address: an operator has edited it by hand.
func (r *Registration) owns(s *api.AgentService) bool {
	token := contract.ParseOwner(s.Meta).Token
	return token == r.config.Owner || token == "" && r.isHere(s)
}

// isHere reports whether a registration is about this process's address.
func (r *Registration) isHere(s *api.AgentService) bool {
	return s.Address == r.config.Address && s.Port == r.config.Port
}

// isOtherProcess reports whether the agent is known to have another process's
// registration under the ID.
func (r *Registration) isOtherProcess(ctx context.Context) bool {
	now, err := r.held(ctx)
	return err == nil && now != nil && !r.owns(now)
}

// logReplaced logs whose registration is about to be replaced. One at the same
// address, or whose checks fail, is what an earlier run has left behind.
func (r *Registration) logReplaced(ctx context.Context) {
	// Not held: the agent would log an error for each program that is new.
	all, err := r.agent.ServicesWithFilterOpts(isID("ID", r.config.ID), (&api.QueryOptions{}).WithContext(ctx))
	now := all[r.config.ID]
	if err != nil || now == nil || r.owns(now) {
		return
	}
	switch {
	case isLeaving(now):
		r.log.Info("replacing registration of a leaving process", r.about(now)...)
	case r.isHere(now):
		r.log.Info("replacing registration of an earlier run", r.about(now)...)
	case r.isCriticalNow(ctx):
		r.log.Info("replacing registration with failing checks", r.about(now)...)
	default:
		r.log.Warn("ID of a running process taken over, use unique IDs", r.about(now)...)
	}
}

func (r *Registration) isCriticalNow(ctx context.Context) bool {
	status, _, err := r.agent.AgentHealthServiceByIDOpts(r.config.ID, (&api.QueryOptions{}).WithContext(ctx))
	return err == nil && status == api.HealthCritical
}

// about is address and age of another's registration, for the log.
func (r *Registration) about(s *api.AgentService) []any {
	address := s.Address
	if address == "" {
		address = "the agent's node"
	}
	age := "unknown"
	if since := contract.ParseOwner(s.Meta).Since; !since.IsZero() {
		age = time.Since(since).Round(time.Second).String()
	}
	const most = 80 // it may be anyone's text
	return []any{"address", fmt.Sprintf("%.*s", most, net.JoinHostPort(address, strconv.Itoa(s.Port))), "age", age}
}

// isLeaving reports whether a registration's owner is about to take it away.
func isLeaving(s *api.AgentService) bool { return s.Meta[contract.KeyDrain] != "" }

// setTaken notes whether another process has registered under the ID, and
// reports whether that is new.
func (r *Registration) setTaken(taken bool) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed = r.taken != taken
	r.taken = taken
	return changed
}

func (r *Registration) isTaken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}
