package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// A collector gets a trace of a change: from Consul's answer to haproxy.cfg.
func TestTracing_NewInstance_IsOneTraceToTheFile(t *testing.T) {
	t.Parallel()
	type attribute struct {
		Key   string
		Value struct{ StringValue string }
	}
	type span struct {
		TraceID, SpanID, ParentSpanID, Name, StartTimeUnixNano, EndTimeUnixNano string
		Attributes                                                              []attribute
		Events                                                                  []struct {
			Name       string
			Attributes []attribute
		}
	}
	of := func(list []attribute, key string) string {
		for _, a := range list {
			if a.Key == key {
				return a.Value.StringValue
			}
		}
		return ""
	}
	spans := make(chan span, 1000)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			ResourceSpans []struct{ ScopeSpans []struct{ Spans []span } }
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		for _, resource := range body.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, s := range scope.Spans {
					spans <- s
				}
			}
		}
	}))
	t.Cleanup(collector.Close)
	w := bareWorld(t)
	lb, err := w.NewBalancer("lb0", w.consul, lab.Service{Name: service})
	w.must(err)
	lb.SetEnviron("OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL)
	w.must(lb.Start(w.ctx))
	_, err = w.StartNode(w.ctx, w.consul, service, "api-1", "1.0")
	w.must(err)
	w.must(lb.Routes(w.ctx, 20*time.Second, service, "api-1"))

	deadline := time.After(20 * time.Second)
	var root span
	below := map[string][]string{} // what happened in each span of a trace
	for len(below["write haproxy.cfg"]) == 0 {
		select {
		case s := <-spans:
			if s.ParentSpanID == "" {
				root, below = s, map[string][]string{}
				continue
			}
			if s.TraceID != root.TraceID || s.ParentSpanID != root.SpanID || nanos(t, s.EndTimeUnixNano) < nanos(t, s.StartTimeUnixNano) {
				t.Errorf("span %+v below %+v", s, root)
			}
			names := []string{s.Name}
			for _, e := range s.Events {
				names = append(names, e.Name)
				if of(e.Attributes, "instance") != "api-1" || of(e.Attributes, "server") == "" || of(e.Attributes, "backend") == "" {
					t.Errorf("the event %+v does not say what it was of", e)
				}
			}
			below[s.Name] = names
			if len(below["change HAProxy"]) < 2 { // not the change that has added the server
				delete(below, "write haproxy.cfg")
			}
		case <-deadline:
			t.Fatalf("no trace to the file: %+v, %v", root, below)
		}
	}
	if took := time.Duration(nanos(t, root.EndTimeUnixNano) - nanos(t, root.StartTimeUnixNano)); root.Name != "apply change" || of(root.Attributes, "service") != service || took <= 0 || took > 20*time.Second || len(below["read back"]) == 0 {
		t.Errorf("%s took %s: %v", root.Name, took, below)
	}
}

func nanos(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Error(err)
	}
	return n
}
