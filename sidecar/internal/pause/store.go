package pause

import (
	"context"
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
		return fmt.Sprintf("pause of %s: changed by others meanwhile", catalog.Printable(e.Service))
	}
	return fmt.Sprintf("pause of %s: changed meanwhile by %s at %s", catalog.Printable(e.Service), catalog.Printable(e.Is.ModifiedBy), e.Is.ModifiedAt.Format(time.RFC3339))
}

// Read reads the document of a service, with its index for a change. One that is missing
// or invalid is a document without a pause: the next one replaces it.
func (s Store) Read(ctx context.Context, service string) (*Document, uint64, error) {
	e, err := s.KV.Get(ctx, Key(service))
	if err != nil {
		return nil, 0, failed(service, err)
	}
	d, err := Parse(service, e.Value)
	if err != nil {
		d = &Document{Schema: Schema, Service: service}
	}
	return d, e.Index, nil
}

// failed is the error of a call to Consul.
func failed(service string, err error) error {
	if consul.IsForbidden(err) {
		err = fmt.Errorf("%w: the Consul token needs key:write for the prefix %s", err, Prefix)
	}
	return fmt.Errorf("pause of %s: %w", catalog.Printable(service), err)
}

// Change reads a document, lets change make another one of it, and writes that if nothing
// has changed it since: else the error is a *ChangedError. A nil document changes nothing.
// It gives both. An error together with the other document does not tell whether that is
// written, or will be: Consul's answer did not come.
func (s Store) Change(ctx context.Context, service string, change func(*Document) (*Document, error)) (was, is *Document, err error) {
	was, index, err := s.Read(ctx, service)
	if err != nil {
		return nil, nil, err
	}
	is, err = change(was)
	if err != nil || is == nil {
		return was, was, err
	}
	value, err := is.Encode()
	if err != nil {
		return was, nil, fmt.Errorf("pause of %s: %w", catalog.Printable(service), err)
	}
	isDone, err := s.KV.Swap(ctx, Key(service), value, index)
	if err != nil {
		if consul.IsForbidden(err) {
			is = nil
		}
		return was, is, failed(service, err)
	}
	if !isDone {
		now, _, _ := s.Read(ctx, service) // to say who
		return was, nil, &ChangedError{service, now}
	}
	return was, is, nil
}
