package history

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// prefix is where the documents are, one key for each service, whose name is escaped.
const prefix = "pointsman/deployments/"

// Book is the documents of all services.
type Book struct{ KV *consul.KV }

// Page is the document of one service, as it was read.
type Page struct {
	Document
	IsLocked bool   // a deployment is under way
	Problem  string // why what is there cannot be read
	index    uint64
	value    []byte
}

func keyOf(service string) string { return prefix + url.PathEscape(service) }

// Read reads the document of a service. An error is no answer of Consul; a value that
// is no document is a Problem.
func (b *Book) Read(ctx context.Context, service string) (Page, error) {
	e, err := b.KV.Get(ctx, keyOf(service))
	if err != nil {
		return Page{}, fmt.Errorf("deployments of %s: %w", service, err)
	}
	return page(service, e), nil
}

// All reads the documents of all services, sorted by name.
func (b *Book) All(ctx context.Context) ([]Page, error) {
	entries, err := b.KV.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("deployments: %w", err)
	}
	var all []Page
	for _, e := range entries {
		if service, err := url.PathUnescape(strings.TrimPrefix(e.Key, prefix)); err == nil && service != "" {
			all = append(all, page(service, e))
		}
	}
	slices.SortFunc(all, func(a, b Page) int { return strings.Compare(a.Service, b.Service) })
	return all, nil
}

func page(service string, e consul.Entry) Page {
	p := Page{IsLocked: e.Session != "", index: e.Index, value: e.Value}
	var err error
	if p.Document, err = decode(service, e.Value); err != nil {
		p.Problem = err.Error()
	}
	return p
}

// Before returns the version that ran before the newest deployment that changed
// something, and the ID of that. Where such a deployment does not say what it has
// replaced, that is the version which was last deployed before it.
func (p Page) Before() (version, id string, found bool) {
	for i, d := range p.Deployments {
		isUnderWay := d.StateOf(p.IsLocked && i == 0) == UnderWay // the lock is the newest one's
		if isUnderWay || !d.touched() {
			continue
		}
		old := d.OldVersion
		if old == "" {
			old = lastDone(p.Deployments[i+1:])
		}
		if old != d.Version {
			return old, d.ID, old != ""
		}
	}
	return "", "", false
}

// lastDone is the version of the newest deployment that is done, or "".
func lastDone(list []Deployment) string {
	for _, d := range list {
		if d.StateOf(false) == Done {
			return d.Version
		}
	}
	return ""
}

// touched reports whether new nodes may run of it, or old ones have gone.
func (d *Deployment) touched() bool {
	return d.Outcome != "failed" && d.Outcome != "deployment impossible" && d.Outcome != "already deployed"
}
