package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// Store reads and changes the documents in Consul.
type Store struct{ KV *consul.KV }

// ChangedError says that a document was changed by others meanwhile.
type ChangedError struct {
	Service string
	Is      *Document // nil: it is gone, or invalid
}

func (e *ChangedError) Error() string {
	if e.Is == nil {
		return fmt.Sprintf("rollout of %s: changed by others meanwhile", catalog.Printable(e.Service))
	}
	return fmt.Sprintf("rollout of %s: changed meanwhile by %s at %s, to %s", catalog.Printable(e.Service), catalog.Printable(e.Is.ModifiedBy), e.Is.ModifiedAt.Format(time.RFC3339), describe(e.Is))
}

// InvalidError is a value in Consul that is no document.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string {
	return fmt.Sprintf("invalid rollout: %v; set replaces it", e.Err)
}
func (e *InvalidError) Unwrap() error { return e.Err }

// Read reads the document of a service, nil if there is none, with its index for a
// change. An *InvalidError says that the value is none.
func (s Store) Read(ctx context.Context, service string) (*Document, uint64, error) {
	e, err := s.KV.Get(ctx, Key(service))
	if err != nil {
		return nil, 0, fmt.Errorf("rollout of %s: %w", catalog.Printable(service), err)
	}
	if e.Index == 0 {
		return nil, 0, nil
	}
	d, err := Parse(service, e.Value)
	if err != nil {
		return nil, e.Index, &InvalidError{err}
	}
	return d, e.Index, nil
}

// Services lists the services that have a document, sorted.
func (s Store) Services(ctx context.Context) ([]string, error) {
	services, err := s.KV.Services(ctx, Prefix)
	if err != nil {
		return nil, fmt.Errorf("rollouts: %w", err)
	}
	return services, nil
}

// Change reads a document, lets change make another one of it, and writes that if
// nothing has changed it since: else the error is a *ChangedError. A service without a
// document has an empty one; so has one whose document is invalid, if it may be replaced.
func (s Store) Change(ctx context.Context, service string, mayReplace bool, change func(*Document) (*Document, error)) (*Document, error) {
	d, index, err := s.Read(ctx, service)
	if _, isInvalid := errors.AsType[*InvalidError](err); err != nil && (!isInvalid || !mayReplace) {
		return nil, err
	}
	if d == nil {
		d = New(service)
	}
	n, err := change(d)
	if err != nil {
		return nil, fmt.Errorf("rollout of %s: %w", catalog.Printable(service), err)
	}
	value, err := n.Encode()
	if err != nil {
		return nil, fmt.Errorf("rollout of %s: %w", catalog.Printable(service), err)
	}
	isDone, err := s.KV.Swap(ctx, Key(service), value, index)
	if err != nil {
		return nil, fmt.Errorf("rollout of %s: %w", catalog.Printable(service), err)
	}
	if !isDone {
		is, _, _ := s.Read(ctx, service) // to say who
		return nil, &ChangedError{service, is}
	}
	return n, nil
}
