package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

// counting is the recorder behind ours: it gets all of it.
type counting struct {
	reconcile.Recorder
	told int
}

func (c *counting) Step(string, plan.Step, error)   { c.told++ }
func (c *counting) Reload(plan.ReloadReason, error) { c.told++ }
func (c *counting) FileWritten(error)               { c.told++ }
func (c *counting) Applied(string, time.Duration)   { c.told++ }
func (c *counting) State(*reconcile.State)          { c.told++ }

func TestRecorder_Change_HasItsStepsAndTheFile(t *testing.T) {
	refused, full := errors.New("refused"), errors.New("disk full")
	var now time.Time
	var got []Change
	next := &counting{}
	r := NewRecorder(next, func() time.Time { return now }, func(c Change) { got = append(got, c) })
	step := func(ms int, service string, k plan.Kind, err error) {
		now = at(ms)
		r.Step(service, plan.Step{Kind: k, Backend: "b", Server: "s", Instance: "i", Reason: plan.Registered}, err)
	}
	applied := func(ms, took int, service string) {
		now = at(ms)
		r.Applied(service, time.Duration(took)*time.Millisecond)
	}
	step(0, "api", plan.Delete, nil) // the end of a drain: of no change
	step(110, "api", plan.Add, nil)
	step(115, "mail", plan.Add, nil)
	now = at(118)
	r.Reload(plan.ServiceAdded, nil)
	step(120, "api", plan.SetReady, refused)
	applied(130, 30, "api")
	applied(140, 10, "api") // another one, without a step
	now = at(200)
	r.FileWritten(full)
	if len(got) != 2 {
		t.Errorf("%d traces once the file is written, want 2", len(got))
	}
	applied(300, 200, "mail")
	now = at(300 + int(fileWait.Milliseconds()) + 1)
	r.State(&reconcile.State{})
	of := func(ms int, name string, err error) Step {
		return Step{At: at(ms), Name: name, Backend: "b", Server: "s", Instance: "i", Why: "registered", Error: err}
	}
	reload := Step{At: at(118), Name: "reload", Why: "service_added"}
	want := []Change{
		{Service: "api", Answered: at(100), Applied: at(130), Written: at(200), Error: full, Steps: []Step{of(110, "add", nil), reload, of(120, "ready", refused)}},
		{Service: "api", Answered: at(130), Applied: at(140), Written: at(200), Error: full},
		{Service: "mail", Answered: at(100), Applied: at(300), Steps: []Step{of(115, "add", nil), reload}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if next.told != 10 {
		t.Errorf("the next recorder was told %d times, want 10", next.told)
	}
}

func TestRecorder_ManyStepsServicesAndChanges_AreBounded(t *testing.T) {
	sent := 0
	r := NewRecorder(&counting{}, func() time.Time { return noon }, func(Change) { sent++ })
	for i := range 10 * maxServices {
		r.Step(fmt.Sprint("s", i%(2*maxServices)), plan.Step{}, nil)
		r.Applied("other", 0)
	}
	for range 2 * maxSteps {
		r.Step("api", plan.Step{}, nil)
	}
	if len(r.steps) > maxServices || len(r.steps["api"]) > maxSteps || len(r.waiting) > maxWaiting || sent != 10*maxServices-maxWaiting {
		t.Errorf("%d services, %d steps, %d waiting, %d sent", len(r.steps), len(r.steps["api"]), len(r.waiting), sent)
	}
}

// body is a request as OTLP has it: a field that it does not know is an error.
type body struct {
	ResourceSpans []struct {
		Resource   struct{ Attributes []attribute }
		ScopeSpans []struct {
			Scope struct{ Name, Version string }
			Spans []span
		}
	}
}

func TestExporter_Collector_GetsOneTraceOfEachChange(t *testing.T) {
	requests := make(chan body, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var b body
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&b); err != nil || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Key") != "secret" || r.URL.Path != "/v1/traces" {
			t.Errorf("%s with %v: %v", r.URL, r.Header, err)
		}
		requests <- b
	}))
	defer collector.Close()
	e := New(Options{URL: collector.URL + "/v1/traces", Headers: map[string]string{"X-Key": "secret"}, Service: "pointsman", LoadBalancer: "lb0", Version: "1.0", Logger: hclog.NewNullLogger()})
	e.Send(Change{Service: "api", Answered: at(100), Applied: at(130), Written: at(200), Steps: []Step{
		{At: at(110), Name: "add", Backend: "b", Server: "s", Instance: "i", Why: "registered"}, {At: at(120), Name: "ready", Error: errors.New("refused")},
	}})
	e.Send(Change{Service: "mail", Answered: at(100), Applied: at(130)})
	ctx, stop := context.WithCancel(t.Context())
	stop() // the rest is sent
	e.Run(ctx)
	var got body
	select {
	case got = <-requests:
	default:
		t.Fatal("the collector got nothing")
	}
	if len(got.ResourceSpans) != 1 || len(got.ResourceSpans[0].ScopeSpans) != 1 || len(got.ResourceSpans[0].ScopeSpans[0].Spans) != 6 {
		t.Fatalf("got %+v, want six spans", got)
	}
	if diff := cmp.Diff(attributes("service.name", "pointsman", "service.version", "1.0", "service.instance.id", "lb0"), got.ResourceSpans[0].Resource.Attributes); diff != "" {
		t.Errorf("resource: -want +got:\n%s", diff)
	}
	var lines []string
	roots := map[string]string{} // the root's ID of each trace
	for _, s := range got.ResourceSpans[0].ScopeSpans[0].Spans {
		if len(s.TraceID) != 32 || len(s.SpanID) != 16 || s.Parent != roots[s.TraceID] || s.Kind != 1 {
			t.Errorf("span %+v, want a parent %q", s, roots[s.TraceID])
		}
		if s.Parent == "" {
			roots[s.TraceID] = s.SpanID
		}
		line := fmt.Sprintf("%s %s-%s", s.Name, ms(t, s.Start), ms(t, s.End))
		for _, a := range s.Attributes {
			line += " " + a.Key + "=" + a.Value["stringValue"]
		}
		for _, x := range s.Events {
			line += fmt.Sprintf(", %s %s", x.Name, ms(t, x.At))
			for _, a := range x.Attributes {
				line += " " + a.Key + "=" + a.Value["stringValue"]
			}
		}
		if s.Status != nil {
			line += fmt.Sprint(" ", s.Status["code"], s.Status["message"])
		}
		lines = append(lines, line)
	}
	want := `apply change 100-200 service=api
change HAProxy 100-120, add 110 backend=b server=s instance=i reason=registered, ready 120 error=refused 2refused
read back 120-130
write haproxy.cfg 130-200
apply change 100-130 service=mail
read back 100-130`
	if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" || len(roots) != 2 {
		t.Errorf("%d traces; -want +got:\n%s", len(roots), diff)
	}
}

func ms(t *testing.T, nanos string) string {
	t.Helper()
	var n int64
	if _, err := fmt.Sscan(nanos, &n); err != nil {
		t.Error(err)
	}
	return fmt.Sprint(time.Unix(0, n).Sub(noon).Milliseconds())
}

func TestExporter_CollectorFails_IsLoggedOnceAndNothingWaits(t *testing.T) {
	isWell := false
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !isWell {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("full\n"))
		}
	}))
	defer collector.Close()
	var out bytes.Buffer
	e := New(Options{URL: collector.URL, Logger: hclog.New(&hclog.LoggerOptions{Output: &out})})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for range 10 * maxQueue { // which are not taken
		e.Send(Change{})
	}
	for len(e.queue) > 0 {
		e.Run(ctx)
	}
	isWell = true
	e.Send(Change{})
	e.Run(ctx)
	if log := out.String(); strings.Count(log, "\n") != 2 || !strings.Contains(log, `traces not exported: traces=64 error="status 503: \"full\""`) || !strings.Contains(log, "traces exported again") {
		t.Errorf("the log has\n%s", log)
	}
}
