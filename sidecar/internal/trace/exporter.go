package trace

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options say where traces are sent, and of whom they are.
type Options struct {
	URL                            string // of the collector, with the path
	Headers                        map[string]string
	Service, LoadBalancer, Version string
	Logger                         hclog.Logger
}

// Exporter sends traces to a collector.
type Exporter struct {
	options Options
	queue   chan Change
	dropped atomic.Int64
	isAway  bool
}

// The bounds of what is sent.
const (
	maxQueue    = 256
	maxBatch    = 64
	sendTimeout = 10 * time.Second // OpenTelemetry's default
	lastTimeout = 2 * time.Second  // at the end
)

// New makes an exporter and starts nothing.
func New(o Options) *Exporter {
	return &Exporter{options: o, queue: make(chan Change, maxQueue)}
}

// Send takes a change, or drops it where the collector is too slow. It does not wait.
func (e *Exporter) Send(c Change) {
	select {
	case e.queue <- c:
	default:
		e.dropped.Add(1)
	}
}

// Run sends traces until the context ends, and then as many once more. What the collector
// does not take is dropped and logged.
func (e *Exporter) Run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case c := <-e.queue:
			e.batch(ctx, c, sendTimeout)
		case <-ctx.Done():
		}
	}
	select {
	case c := <-e.queue:
		e.batch(context.WithoutCancel(ctx), c, lastTimeout)
	default:
	}
}

// batch sends a change with those that wait behind it.
func (e *Exporter) batch(ctx context.Context, first Change, within time.Duration) {
	changes := []Change{first}
	for len(changes) < maxBatch && len(e.queue) > 0 {
		changes = append(changes, <-e.queue)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := e.post(ctx, e.options.request(changes))
	switch dropped := e.dropped.Swap(0); {
	case err != nil && !e.isAway:
		e.options.Logger.Warn("traces not exported", "traces", len(changes), "error", err)
	case err == nil && e.isAway:
		e.options.Logger.Info("traces exported again")
	case dropped > 0:
		e.options.Logger.Warn("traces dropped, collector too slow", "traces", dropped)
	}
	e.isAway = err != nil
}

func (e *Exporter) post(ctx context.Context, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.options.URL, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range e.options.Headers {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // its rest is of no use
	if resp.StatusCode/100 != 2 {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("status %d: %q", resp.StatusCode, bytes.TrimSpace(why))
	}
	return nil
}

// The JSON of OTLP (opentelemetry-proto, trace/v1/trace.proto): IDs are hexadecimal, and 64
// bit numbers are strings.
type (
	object    map[string]any
	attribute struct {
		Key   string            `json:"key"`
		Value map[string]string `json:"value"`
	}
	span struct {
		TraceID    string      `json:"traceId"`
		SpanID     string      `json:"spanId"`
		Parent     string      `json:"parentSpanId,omitempty"`
		Name       string      `json:"name"`
		Kind       int         `json:"kind"`
		Start      string      `json:"startTimeUnixNano"`
		End        string      `json:"endTimeUnixNano"`
		Attributes []attribute `json:"attributes,omitempty"`
		Events     []spanEvent `json:"events,omitempty"`
		Status     object      `json:"status,omitempty"`
	}
	spanEvent struct {
		At         string      `json:"timeUnixNano"`
		Name       string      `json:"name"`
		Attributes []attribute `json:"attributes,omitempty"`
	}
)

const internal = 1 // SPAN_KIND_INTERNAL

// request is the body of a request with traces.
func (o *Options) request(changes []Change) object {
	var spans []span
	for _, c := range changes {
		spans = append(spans, c.spans()...)
	}
	return object{"resourceSpans": []object{{
		"resource":   object{"attributes": attributes("service.name", o.Service, "service.version", o.Version, "service.instance.id", o.LoadBalancer)},
		"scopeSpans": []object{{"scope": object{"name": "pointsman", "version": o.Version}, "spans": spans}},
	}}}
}

// spans are those of one trace: the change, and below it what was done one after the other.
func (c *Change) spans() []span {
	trace, root, end := id(16), id(8), c.Applied
	child := func(name string, from, to time.Time, err error) span {
		s := span{TraceID: trace, SpanID: id(8), Parent: root, Name: name, Kind: internal, Start: nanos(from), End: nanos(to)}
		if err != nil {
			s.Status = object{"code": 2, "message": err.Error()}
		}
		return s
	}
	var below []span
	last := c.Answered
	if n := len(c.Steps); n > 0 {
		last = c.Steps[n-1].At
		commands := child("change HAProxy", c.Answered, last, nil)
		for _, s := range c.Steps {
			why := ""
			if s.Error != nil {
				why = s.Error.Error()
				commands.Status = object{"code": 2, "message": why}
			}
			commands.Events = append(commands.Events, spanEvent{nanos(s.At), s.Name, attributes("backend", s.Backend, "server", s.Server, "instance", s.Instance, "reason", s.Why, "error", why)})
		}
		below = append(below, commands)
	}
	below = append(below, child("read back", last, c.Applied, nil))
	if !c.Written.IsZero() {
		end = c.Written
		below = append(below, child("write haproxy.cfg", c.Applied, end, c.Error))
	}
	whole := span{TraceID: trace, SpanID: root, Name: "apply change", Kind: internal, Start: nanos(c.Answered), End: nanos(end), Attributes: attributes("service", c.Service)}
	return append([]span{whole}, below...)
}

// attributes are pairs of keys and values; those without a value are left out.
func attributes(pairs ...string) (list []attribute) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			list = append(list, attribute{pairs[i], map[string]string{"stringValue": pairs[i+1]}})
		}
	}
	return list
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func id(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
