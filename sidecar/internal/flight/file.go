package flight

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// schema is the version of the file's form. Another one cannot be read.
const schema = 1

// maxFile bounds a file that is read, in bytes: what is kept takes some 40 MB.
const maxFile = 256 << 20

// File is the body of /api/v1/decisions, and what `pointsman record` writes: the newest
// decisions of one sidecar. Times are of its clock, durations in nanoseconds.
type File struct {
	Schema       int         `json:"schema"`
	LoadBalancer string      `json:"load_balancer"`
	Version      string      `json:"version"` // of the sidecar
	Written      time.Time   `json:"written"`
	Decisions    []*Decision `json:"decisions"` // the oldest first
}

// NewFile makes a file of decisions.
func NewFile(balancer, version string, now time.Time, decisions []*Decision) File {
	return File{Schema: schema, LoadBalancer: balancer, Version: version, Written: now, Decisions: decisions}
}

// WithoutChecks gives the file without what checks have answered, which is the servers' own
// text. Decisions do not depend on it.
func (f File) WithoutChecks() File {
	decisions := make([]*Decision, len(f.Decisions))
	for i, d := range f.Decisions {
		silent := *d
		if b, has := d.HAProxy.Backends[d.Service.Backend]; has {
			b.Servers = slices.Clone(b.Servers)
			for k := range b.Servers {
				b.Servers[k].Check.Words = ""
			}
			silent.HAProxy.Backends = map[string]plan.Backend{d.Service.Backend: b}
		}
		silent.Outcome.Waiting = slices.Clone(d.Outcome.Waiting)
		for k := range silent.Outcome.Waiting {
			silent.Outcome.Waiting[k].Check.Words = ""
		}
		decisions[i] = &silent
	}
	f.Decisions = decisions
	return f
}

// Read reads a file. An error says what is wrong with it.
func Read(r io.Reader) (f File, err error) {
	limited := &io.LimitedReader{R: r, N: maxFile + 1}
	d := json.NewDecoder(limited)
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		if limited.N <= 0 {
			return File{}, fmt.Errorf("larger than %d bytes", maxFile)
		}
		return File{}, fmt.Errorf("no record of decisions, or one of another version of pointsman: %w", err)
	}
	if f.Schema != schema {
		return File{}, fmt.Errorf("schema %d: this program reads schema %d", f.Schema, schema)
	}
	for i, x := range f.Decisions {
		if x == nil {
			return File{}, fmt.Errorf("decisions[%d]: null", i)
		}
	}
	return f, nil
}

// Again makes the decision again, from what it was made from. An error is that nothing
// can be decided from that: a file may be anyone's.
func (d *Decision) Again() (out plan.Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not decidable: %v", p)
		}
	}()
	want := catalog.Service{Name: d.Service.Backend, Known: d.Consul.Known, Index: d.Consul.Index, Instances: d.Consul.Instances, Untagged: d.Consul.Untagged}
	return plan.Decide(d.Service, d.HAProxy, want).Outcome(d.HAProxy), nil
}

// IsSame reports whether two outcomes are the same to HAProxy: the steps in their order,
// the reload, and what waits for what.
func IsSame(x, y plan.Outcome) bool {
	return x.Reload == y.Reload && slices.Equal(x.Steps, y.Steps) && slices.Equal(x.Waiting, y.Waiting)
}
