package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Report is what the sidecar that leads a rollout has found in its current step. It is
// the value of the lock, for people: nothing is decided by it.
type Report struct {
	Leader  string    `json:"leader"`  // the load balancer
	StepAt  time.Time `json:"step_at"` // when the step began that it is about
	Verdict Verdict   `json:"verdict,omitempty"`
	Reason  string    `json:"reason,omitempty"` // of the verdict
	Numbers Numbers   `json:"numbers,omitzero"`
}

// Numbers are those of a comparison, of the current step.
type Numbers struct {
	At     time.Time `json:"at"` // of the last look
	Next   time.Time `json:"next_look,omitzero"`
	Stable Counted   `json:"stable"`
	Canary Counted   `json:"canary"`
}

// Counted is what was counted of one version, on all load balancers together.
type Counted struct {
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
	Retries  uint64 `json:"retries"`
	// ResponseTimeMS is the mean of the last comparison, in milliseconds; 0: none yet.
	ResponseTimeMS float64 `json:"response_time_ms"`
}

// maxReport is the most bytes of a report.
const maxReport = 4 << 10

func leaderKey(service string) string { return leaders.Key(service) }

// parseReport reads the value of a lock.
func parseReport(value []byte) (*Report, error) {
	if len(value) > maxReport {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(value), maxReport)
	}
	in := json.NewDecoder(bytes.NewReader(value))
	r := &Report{}
	if err := in.Decode(r); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	if r.Verdict != "" && !slices.Contains([]Verdict{Pass, Fail, Wait}, r.Verdict) {
		return nil, fmt.Errorf("verdict: %.40q, want %s, %s or %s", r.Verdict, Pass, Fail, Wait)
	}
	if t := r.Numbers; t.Stable.ResponseTimeMS < 0 || t.Canary.ResponseTimeMS < 0 {
		return nil, errors.New("numbers: a negative response time")
	}
	return r, errors.Join(checkText("leader", r.Leader), checkText("reason", r.Reason))
}

// Report reads what the leader has found of a document's current step; nil if there is
// nothing, or a value that is no report: nothing depends on it.
func (s Store) Report(ctx context.Context, d *Document) (*Report, error) {
	e, err := s.KV.Get(ctx, leaderKey(d.Service))
	if err != nil {
		return nil, fmt.Errorf("leader of the rollout of %s: %w", catalog.Printable(d.Service), err)
	}
	r, err := parseReport(e.Value)
	if err != nil || !r.StepAt.Equal(d.StepAt) || len(d.Steps) == 0 || len(d.Shares) == 0 {
		return nil, nil //nolint:nilnil,nilerr // see above
	}
	return r, nil
}

// report writes what is known by now, if that is new.
func (m *Mover) report(ctx context.Context, service string, d *Document, j Judgement) error {
	r := Report{Leader: m.Name, StepAt: d.StepAt, Verdict: j.Verdict, Reason: Text(j.Reason)}
	if m.Numbers != nil {
		r.Numbers = m.Numbers(service)
	}
	if r == m.reported[service] {
		return nil
	}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := m.KV.Acquire(ctx, leaderKey(service), value, m.session); err != nil {
		return err
	}
	m.reported[service] = r
	return nil
}
