package flight

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// schema is the version of the file's form. Another one cannot be read.
const schema = 1

// The bounds of a file that is read: bytes, and objects in it, of which each takes many
// times its three bytes in memory. What is kept takes some 20 MB, and some 100,000.
const (
	maxFile    = 32 << 20
	maxObjects = 250_000
)

// File is the body of /api/v1/decisions, and what `pointsman record` writes: the newest
// decisions of one sidecar. Times are of its clock, durations in nanoseconds.
type File struct {
	Schema       int         `json:"schema"`
	LoadBalancer string      `json:"load_balancer"`
	Version      string      `json:"version"` // of the sidecar
	Written      time.Time   `json:"written"`
	Decisions    []*Decision `json:"decisions"` // the oldest first
}

// NewFile makes a file of decisions. What may be a secret in the settings of a service,
// the word that agents are sent and the query of a check's path, is not in it: decisions do
// not depend on it.
func NewFile(balancer, version string, now time.Time, decisions []*Decision) File {
	f := File{Schema: schema, LoadBalancer: balancer, Version: version, Written: now, Decisions: make([]*Decision, len(decisions))}
	for i, d := range decisions {
		f.Decisions[i] = d.masked()
	}
	return f
}

// mask stands for what is left out.
const mask = "***"

// masked is a copy without what may be a secret.
func (d *Decision) masked() *Decision {
	c := *d
	c.Service.Options, c.Service.Path = maskOptions(d.Service.Options), maskQuery(d.Service.Path)
	c.Outcome.Steps, c.Outcome.Waiting = slices.Clone(d.Outcome.Steps), slices.Clone(d.Outcome.Waiting)
	for i := range c.Outcome.Steps {
		c.Outcome.Steps[i].Options = maskOptions(c.Outcome.Steps[i].Options)
	}
	for i := range c.Outcome.Waiting {
		c.Outcome.Waiting[i].Check.Path = maskQuery(c.Outcome.Waiting[i].Check.Path)
	}
	return &c
}

// maskOptions masks the argument of agent-send (HAProxy's manual, 5.2).
func maskOptions(options string) string {
	words := strings.Fields(options)
	for i := 1; i < len(words); i++ {
		if words[i-1] == "agent-send" {
			words[i] = mask
		}
	}
	return strings.Join(words, " ")
}

func maskQuery(path string) string {
	if before, _, has := strings.Cut(path, "?"); has {
		return before + "?" + mask
	}
	return path
}

// WithoutChecks returns the file without what checks have answered, which is the servers' own
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
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch n := bytes.Count(text, []byte("{")); {
	case err != nil:
		return File{}, err
	case len(text) > maxFile:
		return File{}, fmt.Errorf("larger than %d bytes", maxFile)
	case n > maxObjects:
		return File{}, fmt.Errorf("%d objects, want at most %d", n, maxObjects)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return File{}, fmt.Errorf("no record of decisions, or one of another version of pointsman: %w", err)
	}
	return f, f.Check()
}

// Check reports what is wrong with a file that was decoded.
func (f File) Check() error {
	if f.Schema != schema {
		return fmt.Errorf("schema %d: this program reads schema %d", f.Schema, schema)
	}
	if i := slices.Index(f.Decisions, nil); i >= 0 {
		return fmt.Errorf("decisions[%d]: null", i)
	}
	return nil
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
