package history

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// folder is where the documents are, one key for each service, whose name is escaped.
const folder consul.Folder = "pointsman/deployments/"

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

// Read reads the document of a service. An error is no answer of Consul; a value that
// is no document is a Problem.
func (b *Book) Read(ctx context.Context, service string) (Page, error) {
	e, err := b.KV.Get(ctx, folder.Key(service))
	if err != nil {
		return Page{}, fmt.Errorf("deployments of %s: %w", service, err)
	}
	return page(service, e), nil
}

// The bounds of All.
const (
	readAtOnce = 8
	maxRead    = 5000 // documents
)

// All reads the documents of all services, sorted by name. Each is read by itself: one
// answer with all of them would have no bound. Of those beyond maxRead the last page
// tells how many they are.
func (b *Book) All(ctx context.Context) ([]Page, error) {
	services, err := b.KV.Services(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("deployments: %w", err)
	}
	beyond := max(0, len(services)-maxRead)
	services = services[:len(services)-beyond]
	all := make([]Page, len(services))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for i, service := range services {
		group.Go(func() (err error) {
			all[i], err = b.Read(ctx, service)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(p Page) bool { return !p.IsThere() }) // none, or deleted meanwhile
	slices.SortFunc(all, func(a, b Page) int { return strings.Compare(a.Service, b.Service) })
	if beyond > 0 {
		all = append(all, Page{Document: Document{Service: "others"}, Problem: fmt.Sprintf("%d more services have a record than the %d that are read", beyond, maxRead)})
	}
	return all, nil
}

// IsThere reports whether the service has a record.
func (p Page) IsThere() bool { return p.index > 0 }

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
	return d.Outcome != "failed" && d.Outcome != "deployment impossible" && d.Outcome != "already deployed" && d.Outcome != "aborted"
}
