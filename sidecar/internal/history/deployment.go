package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// Format is the version of the document.
const Format = 1

// The bounds of a document. Consul takes values of up to 512 KB.
const (
	maxBytes       = 256 << 10
	maxDeployments = 20
	maxSteps       = 64
	maxBalancers   = 64
	maxProblems    = 10
	maxText        = 300 // bytes
)

// Document is what was deployed of one service.
type Document struct {
	Format      int          `json:"format"`
	Service     string       `json:"service"`
	Deployments []Deployment `json:"deployments"` // the newest first
}

// Deployment is one deployment, under way or ended.
type Deployment struct {
	ID         string    `json:"id"`
	Service    string    `json:"service"`
	Version    string    `json:"version"`
	OldVersion string    `json:"old_version,omitempty"`
	Undoes     string    `json:"undoes,omitempty"` // the ID of the one that it takes back
	By         string    `json:"by"`               // user@host
	Started    time.Time `json:"started"`
	Updated    time.Time `json:"updated"`
	Ended      time.Time `json:"ended,omitzero"`
	// Outcome is that of pointsman deploy; "" while it is under way.
	Outcome deploy.Outcome `json:"outcome,omitempty"`
	Count   int            `json:"count"`

	Steps         []deploy.Step `json:"steps"` // the last one is the current one
	LoadBalancers []deploy.Bar  `json:"load_balancers"`
	Problems      []string      `json:"problems"`
}

// State is where a deployment stands.
type State string

// The states.
const (
	UnderWay State = "under_way"
	Done     State = "done"
	Failed   State = "failed"
	Lost     State = "lost" // it ended without a result: its process was killed, or cut off
)

// StateOf returns the state of a deployment. isLocked says that a process holds the lock.
func (d *Deployment) StateOf(isLocked bool) State {
	switch {
	case d.Outcome == deploy.Deployed || d.Outcome == deploy.Already:
		return Done
	case d.Outcome != "":
		return Failed
	case isLocked:
		return UnderWay
	}
	return Lost
}

// decode reads a document. No value is an empty one.
func decode(service string, value []byte) (Document, error) {
	empty := Document{Format: Format, Service: service}
	if len(value) == 0 {
		return empty, nil
	}
	var d Document
	if len(value) > 2*maxBytes {
		return empty, fmt.Errorf("%d bytes: want at most %d", len(value), 2*maxBytes)
	}
	if err := json.NewDecoder(bytes.NewReader(value)).Decode(&d); err != nil {
		return empty, fmt.Errorf("invalid JSON: %w", err)
	}
	if d.Format != Format {
		return empty, fmt.Errorf("format %d: this program reads %d", d.Format, Format)
	}
	if d.Service != service {
		return empty, fmt.Errorf("it is of the service %.100q", d.Service)
	}
	d.Deployments = d.Deployments[:min(len(d.Deployments), maxDeployments)]
	for i := range d.Deployments {
		d.Deployments[i].bound()
	}
	return d, nil
}

// encode returns the bytes of a document. The oldest deployments go where it would be
// too large.
func (d Document) encode() ([]byte, error) {
	d.Deployments = slices.Clone(d.Deployments[:min(len(d.Deployments), maxDeployments)])
	for i := range d.Deployments {
		d.Deployments[i].bound()
	}
	for {
		out, err := json.Marshal(d)
		if err != nil || len(out) <= maxBytes || len(d.Deployments) <= 1 {
			return out, err
		}
		d.Deployments = d.Deployments[:len(d.Deployments)-1]
	}
}

// bound cuts what is too long. Of many steps the first and the last stay.
func (d *Deployment) bound() {
	for _, s := range []*string{&d.ID, &d.Service, &d.Version, &d.OldVersion, &d.Undoes, &d.By, (*string)(&d.Outcome)} {
		*s = cut(*s)
	}
	d.Steps = bounded(d.Steps, maxSteps)
	for i := range d.Steps {
		s := &d.Steps[i]
		s.Name, s.Detail, s.AtDeadline = cut(s.Name), cut(s.Detail), cut(s.AtDeadline)
	}
	d.LoadBalancers = bounded(d.LoadBalancers, maxBalancers)
	for i := range d.LoadBalancers {
		b := &d.LoadBalancers[i]
		b.Name, b.Trouble, b.Waits = cut(b.Name), cut(b.Trouble), cut(b.Waits)
	}
	d.Problems = bounded(d.Problems, maxProblems)
	for i := range d.Problems {
		d.Problems[i] = cut(d.Problems[i])
	}
}

// bounded returns a list of its own that is not nil, with at most max elements: the first
// half of that, and the last.
func bounded[T any](list []T, most int) []T {
	if n := len(list); n > most {
		list = append(slices.Clone(list[:most/2]), list[n-most/2:]...)
	}
	return append([]T{}, list...)
}

func cut(s string) string {
	if len(s) > maxText {
		return s[:maxText-3] + "…"
	}
	return s
}
