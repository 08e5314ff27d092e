// Package pause keeps which services an operator has paused, a document for each in
// Consul, and follows them.
//
// Its invariant: a pause has a deadline, and no document makes requests wait for longer than
// MaxHold from when it is read, and a minute more if its writer's clock is ahead.
package pause

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// Schema is the version of the document.
const Schema = 1

// Prefix is where the documents are, one key for each service, whose name is escaped.
const Prefix consul.Folder = "pointsman/pauses/"

// The bounds of a document.
const (
	MaxHold  = 10 * time.Minute // from when it is written until its deadline
	maxBytes = 4 << 10
)

// Document is the pause of a service.
type Document struct {
	Schema     int       `json:"schema"`
	Service    string    `json:"service"`
	Until      time.Time `json:"until,omitzero"` // the deadline; zero: an operator has ended it
	Reason     string    `json:"reason,omitempty"`
	ModifiedBy string    `json:"modified_by"` // user@host, or the load balancer whose API it was
	ModifiedAt time.Time `json:"modified_at"`
}

// Key is the key of a service's document.
func Key(service string) string { return Prefix.Key(service) }

// Parse reads the document of a service. The error names the key and all that is wrong.
func Parse(service string, value []byte) (*Document, error) {
	d, err := consul.DecodeDocument[Document](value, maxBytes)
	if err == nil {
		err = d.check(service)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %s", catalog.Printable(Key(service)), strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return d, nil
}

// Encode returns the bytes of a document, or what is wrong with it.
func (d *Document) Encode() ([]byte, error) {
	if err := d.check(d.Service); err != nil {
		return nil, err
	}
	return json.Marshal(d)
}

// Is reports whether both are what one change has written.
func (d *Document) Is(o *Document) bool {
	return d.ModifiedAt.Equal(o.ModifiedAt) && d.ModifiedBy == o.ModifiedBy
}

// check names all that is wrong with a document.
func (d *Document) check(service string) error {
	if d.Schema != Schema {
		return fmt.Errorf("schema: %d, this program reads %d", d.Schema, Schema)
	}
	var errs []error
	if d.Service != service {
		errs = append(errs, fmt.Errorf("service: %.100q, want %.100q", d.Service, service))
	}
	if d.ModifiedAt.IsZero() {
		errs = append(errs, errors.New("modified_at: none, want when the document was written"))
	}
	if !d.Until.IsZero() {
		if err := CheckHold(d.Until.Sub(d.ModifiedAt)); err != nil {
			errs = append(errs, fmt.Errorf("until: from modified_at: %w", err))
		}
	}
	for _, t := range []struct{ key, text string }{{"reason", d.Reason}, {"modified_by", d.ModifiedBy}} {
		if err := consul.CheckText(t.text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.key, err))
		}
	}
	return errors.Join(errs...)
}

// CheckHold refuses a time from the beginning of a pause to its deadline that is out of
// bounds.
func CheckHold(d time.Duration) error {
	if d < time.Second || d > MaxHold {
		return fmt.Errorf("%s, want %s to %s", d, time.Second, MaxHold)
	}
	return nil
}

// IsPaused reports whether the deadline is still to come.
func (d *Document) IsPaused(now time.Time) bool { return d.Until.After(now) }

// Pause is the next document: the service is paused for a time from now.
func (d *Document) Pause(by, reason string, now time.Time, hold time.Duration) *Document {
	now = now.UTC().Truncate(time.Millisecond)
	return &Document{Schema: Schema, Service: d.Service, Until: now.Add(hold), Reason: reason, ModifiedBy: by, ModifiedAt: now}
}

// Resume is the next document: the service is not paused.
func (d *Document) Resume(by string, now time.Time) *Document {
	return &Document{Schema: Schema, Service: d.Service, ModifiedBy: by, ModifiedAt: now.UTC().Truncate(time.Millisecond)}
}

// Change is the change of a document: a pause for a time from now, or where that is 0 the
// end of one; nil: there is nothing to end.
func Change(by, reason string, hold time.Duration, now time.Time) func(*Document) (*Document, error) {
	return func(d *Document) (*Document, error) {
		switch {
		case hold > 0:
			return d.Pause(by, reason, now, hold), nil
		case !d.IsPaused(now):
			return nil, nil //nolint:nilnil // as Store.Change wants it
		}
		return d.Resume(by, now), nil
	}
}
