package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3gen"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/history"
	"github.com/pointsman/pointsman/sidecar/internal/pause"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

const openAPIFile = "../../../docs/openapi.json"

// operation is a path of the API as the document has it.
type operation struct {
	path    string // with parameters in braces
	route   string // of the server; "" is path
	method  string
	summary string
	query   []string
	need    string // the one of query without which the server refuses the request
	answer  any    // of 200; nil: no JSON
	kind    string // of 200, where it is no JSON
	ask     string // what a test asks for; "" is not asked
}

type healthAnswer struct {
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Summary string `json:"summary,omitempty"`
}

type readyAnswer struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
}

type problemAnswer struct {
	Error string `json:"error"`
}

// recordAnswer is a flight.File; its decisions are for "pointsman replay" only.
type recordAnswer struct {
	Schema       int       `json:"schema"`
	LoadBalancer string    `json:"load_balancer"`
	Version      string    `json:"version"`
	Written      time.Time `json:"written"`
	Decisions    []any     `json:"decisions"`
}

var operations = []operation{
	{path: "/healthz", method: "GET", summary: "Whether the process is alive and its loop runs", answer: healthAnswer{}, ask: "/healthz"},
	{path: "/readyz", method: "GET", summary: "Whether HAProxy matches Consul", answer: readyAnswer{}, ask: "/readyz"},
	{path: "/metrics", method: "GET", summary: "Metrics in Prometheus's format", kind: "text/plain"},
	{path: "/api/v1/state", method: "GET", summary: "The state of the load balancer", query: []string{"pretty"}, answer: daemon.JudgedState{}, ask: "/api/v1/state"},
	{path: "/api/v1/state/stream", method: "GET", summary: "The state as server-sent events: the whole, then each change", kind: "text/event-stream"},
	{path: "/api/v1/summary", method: "GET", summary: "The state without instances", query: []string{"pretty"}, answer: fleet.Summary{}, ask: "/api/v1/summary"},
	{path: "/api/v1/fleet", method: "GET", summary: "All load balancers", query: []string{"pretty"}, answer: fleet.Fleet{}, ask: "/api/v1/fleet"},
	{path: "/api/v1/counters/{service}", route: "/api/v1/counters/*", method: "GET", summary: "What HAProxy has counted of a service's instances", answer: sidecarapi.Counters{}, ask: "/api/v1/counters/api"},
	{path: "/api/v1/pauses/{service}", route: "/api/v1/pauses/*", method: "GET", summary: "Whether a service is paused, and the requests that wait", answer: sidecarapi.Pause{}, ask: "/api/v1/pauses/api"},
	{path: "/api/v1/decisions", method: "GET", summary: "The newest decisions, with what they were made from", query: []string{"pretty"}, answer: recordAnswer{}, ask: "/api/v1/decisions"},
	{path: "/api/v1/deployments", method: "GET", summary: "What was deployed, as recorded in Consul", answer: daemon.Deployments{}, ask: "/api/v1/deployments"},
	{path: "/api/v1/rollouts", method: "GET", summary: "How versions share the traffic, as recorded in Consul", answer: daemon.Rollouts{}, ask: "/api/v1/rollouts"},
	{path: "/api/v1/events", method: "GET", summary: "What has happened; with follow as server-sent events", query: []string{"after", "limit", "follow"}, answer: api.Events{}, ask: "/api/v1/events"},
	{path: "/api/v1/drain/{service}/{instance}", route: "/api/v1/drain/*", method: "GET", summary: "Waits until an instance is drained on this load balancer", query: []string{"wait", "index", "dc"}, answer: sidecarapi.Drain{}, ask: "/api/v1/drain/api/api-1?wait=0s"},
	{path: "/api/v1/live/{service}", route: "/api/v1/live/*", method: "GET", summary: "Waits until instances of a version take traffic", query: []string{"version", "count", "wait", "index"}, answer: sidecarapi.Live{}, ask: "/api/v1/live/api?version=1.1&wait=0s"},
	{path: "/api/v1/guard/{service}/release", route: "/api/v1/guard/*", method: "POST", summary: "Releases the servers that the guard holds", answer: sidecarapi.Released{}, ask: "/api/v1/guard/api/release"},
	{path: "/api/v1/maintenance/on", route: "/api/v1/maintenance/*", method: "POST", summary: "Takes this load balancer out of rotation", answer: api.Maintained{}, ask: "/api/v1/maintenance/on"},
	{path: "/api/v1/maintenance/off", route: "/api/v1/maintenance/*", method: "POST", summary: "Brings this load balancer back into rotation", answer: api.Maintained{}, ask: "/api/v1/maintenance/off"},
	{path: "/api/v1/server/{service}/{server}/drain", route: "/api/v1/server/*", method: "POST", summary: "Keeps a server in drain for an operator", answer: sidecarapi.OperatorDrain{}, ask: "/api/v1/server/api/api-1/drain"},
	{path: "/api/v1/server/{service}/{server}/ready", route: "/api/v1/server/*", method: "POST", summary: "Ends an operator's drain", answer: sidecarapi.OperatorDrain{}, ask: "/api/v1/server/api/api-1/ready"},
	{path: "/api/v1/service/{service}/pause", route: "/api/v1/service/*", method: "POST", summary: "Lets new requests of a service wait on all load balancers", query: []string{"hold", "reason"}, need: "hold", answer: daemon.PauseChanged{}, ask: "/api/v1/service/api/pause?hold=30s"},
	{path: "/api/v1/service/{service}/resume", route: "/api/v1/service/*", method: "POST", summary: "Ends the pause of a service", answer: daemon.PauseChanged{}, ask: "/api/v1/service/api/resume"},
	{path: "/api/v1/rollouts/{service}/abort", route: "/api/v1/rollouts/*", method: "POST", summary: "Gives the stable version all traffic", query: []string{"modified_at"}, answer: daemon.RolloutChanged{}, ask: "/api/v1/rollouts/api/abort"},
	{path: "/api/v1/rollouts/{service}/pause", route: "/api/v1/rollouts/*", method: "POST", summary: "Keeps the current step of a rollout until a resume", query: []string{"modified_at"}, answer: daemon.RolloutChanged{}, ask: "/api/v1/rollouts/api/pause"},
	{path: "/api/v1/rollouts/{service}/promote", route: "/api/v1/rollouts/*", method: "POST", summary: "Goes to the next step of a rollout at once", query: []string{"modified_at"}, answer: daemon.RolloutChanged{}, ask: "/api/v1/rollouts/api/promote"},
	{path: "/api/v1/rollouts/{service}/resume", route: "/api/v1/rollouts/*", method: "POST", summary: "Continues the steps of a rollout", query: []string{"modified_at"}, answer: daemon.RolloutChanged{}, ask: "/api/v1/rollouts/api/resume"},
	{path: "/api/v1/rollouts/{service}/undo", route: "/api/v1/rollouts/*", method: "POST", summary: "Restores the shares before the last change", query: []string{"modified_at"}, answer: daemon.RolloutChanged{}, ask: "/api/v1/rollouts/api/undo"},
	{path: "/api/v1/reload", method: "POST", summary: "Makes a reload of HAProxy due", query: []string{"by"}, answer: sidecarapi.ReloadRequest{}, ask: "/api/v1/reload?by=ann"},
	{path: "/api/v1/rollouts/{service}/end", route: "/api/v1/rollouts/*", method: "POST", summary: "Gives all instances their own weights again", query: []string{"modified_at"}, answer: daemon.RolloutChanged{}, ask: "/api/v1/rollouts/api/end"},
}

// strict makes the fields required that are always there, and allows no others.
func strict(_ string, t reflect.Type, _ reflect.StructTag, schema *openapi3.Schema) error {
	if t == reflect.TypeFor[rollout.Duration]() { // as text, such as 1m0s
		*schema = *openapi3.NewStringSchema()
	}
	if t.Kind() == reflect.Pointer {
		schema.Nullable = true
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || len(schema.Properties) == 0 {
		return nil
	}
	isFalse := false
	schema.AdditionalProperties = openapi3.AdditionalProperties{Has: &isFalse}
	schema.Required = nil
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if schema.Properties[name] != nil && !strings.Contains(options, "omit") {
			schema.Required = append(schema.Required, name)
		}
	}
	slices.Sort(schema.Required)
	return nil
}

// fill makes the lists empty that are nil, as those of a sidecar are.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(field)
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			fill(v.Index(i))
		}
	default:
	}
}

// openAPI makes the document from the Go types.
func openAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc := &openapi3.T{
		OpenAPI: "3.0.3", Info: &openapi3.Info{Title: "Pointsman's API", Version: "v1", Description: "docs/api.md says what each answer means."},
		Paths:      openapi3.NewPaths(),
		Components: &openapi3.Components{Schemas: openapi3.Schemas{}, SecuritySchemes: openapi3.SecuritySchemes{"bearer": {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer")}}},
	}
	schema := func(v any) *openapi3.SchemaRef {
		ref, err := openapi3gen.NewSchemaRefForValue(v, nil, openapi3gen.UseAllExportedFields(), openapi3gen.SchemaCustomizer(strict))
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	wrong := openapi3.NewResponse().WithDescription("why not").WithJSONSchemaRef(schema(problemAnswer{}))
	for _, o := range operations {
		op := &openapi3.Operation{Summary: o.summary, OperationID: strings.ToLower(o.method) + strings.NewReplacer("/", "_", "{", "", "}", "").Replace(o.path)}
		for part := range strings.SplitSeq(o.path, "/") {
			if name, found := strings.CutPrefix(part, "{"); found {
				op.AddParameter(openapi3.NewPathParameter(strings.TrimSuffix(name, "}")).WithSchema(openapi3.NewStringSchema()))
			}
		}
		for _, q := range o.query {
			op.AddParameter(openapi3.NewQueryParameter(q).WithRequired(q == o.need).WithSchema(openapi3.NewStringSchema()))
		}
		good := openapi3.NewResponse().WithDescription("the answer")
		if o.answer != nil {
			good = good.WithJSONSchemaRef(schema(o.answer))
		} else {
			good = good.WithContent(openapi3.NewContentWithSchema(openapi3.NewStringSchema(), []string{o.kind}))
		}
		op.Responses = openapi3.NewResponses(openapi3.WithStatus(200, &openapi3.ResponseRef{Value: good}), openapi3.WithName("default", wrong))
		if o.path != "/healthz" {
			op.Security = openapi3.NewSecurityRequirements().With(openapi3.NewSecurityRequirement().Authenticate("bearer"))
		}
		item := doc.Paths.Value(o.path)
		if item == nil {
			item = &openapi3.PathItem{}
			doc.Paths.Set(o.path, item)
		}
		item.SetOperation(o.method, op)
	}
	return doc
}

func TestOpenAPI_Document_IsWhatTheTypesSay(t *testing.T) {
	doc := openAPI(t)
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("it is no OpenAPI document: %v", err)
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(filepath.FromSlash(openAPIFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(filepath.FromSlash(openAPIFile))
	if err != nil || !bytes.Equal(is, text) {
		t.Errorf("docs/openapi.json is not what the types say (%v): run the test with -update", err)
	}
}

// parameters has a value for each parameter that a request may have.
var parameters = map[string]string{
	"after": "0", "by": "ann", "count": "1", "dc": "dc1", "hold": "30s", "index": "0", "limit": "1", "modified_at": noon.Format(time.RFC3339Nano), "pretty": "", "reason": "x", "version": "1.1", "wait": "0s",
}

// checkParameters asks with all parameters of an operation, and without each of them: the server
// refuses the request without those that the document requires, and without no other.
func checkParameters(t *testing.T, base string, op operation) {
	t.Helper()
	path, _, _ := strings.Cut(op.ask, "?")
	for _, without := range append([]string{""}, op.query...) {
		query := url.Values{}
		for _, name := range op.query {
			value, has := parameters[name]
			if has && (name != without || name == "wait") { // without that it waits for long
				query.Set(name, value)
			} else if !has && name != "follow" {
				t.Errorf("%s: no value for %s", op.path, name)
			}
		}
		status, _ := askFor(t, op.method, base+path+"?"+query.Encode())
		if want := without != "" && without == op.need; (status == http.StatusBadRequest) != want || !want && status != http.StatusOK {
			t.Errorf("%s %s with %q, without %q: status %d; the document requires %q", op.method, path, query.Encode(), without, status, op.need)
		}
	}
}

// askFor sends a request with the token, and gives the JSON of the answer; nil: it has none.
func askFor(t *testing.T, method, target string) (status int, body any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret")
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // it has been read
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Errorf("%s: %v", target, err)
	}
	return resp.StatusCode, body
}

// Every path of the server is in the document, and the other way round; and what a
// server answers is what the document says.
func TestOpenAPI_Server_AnswersAsTheDocumentSays(t *testing.T) {
	s := sampleState()
	fill(reflect.ValueOf(s))
	own := fleet.Summarize(s, s.Verdict())
	all := sampleFleet()
	fill(reflect.ValueOf(&all))
	page := history.Page{Document: history.Document{Service: "api", Deployments: []history.Deployment{{
		ID: "x", Service: "api", Version: "1.1", Started: noon, Outcome: deploy.Deployed, Steps: []deploy.Step{{Name: "start"}}, LoadBalancers: []deploy.Bar{{Name: "lb0"}}, Problems: []string{"y"},
	}}}}
	log := event.NewLog(noon)
	log.Add(noon, event.Event{Kind: event.ServerUp, Service: "api"})
	o := api.Options{
		Address: "127.0.0.1:0", LoadBalancer: "lb0", Metrics: prometheus.NewRegistry(), Access: api.Access{Token: "secret"},
		State: func() any { return daemon.Judged(s) }, Short: func() any { return own },
		Fleet: func(context.Context) any { return all },
		Counters: func(context.Context, string) (sidecarapi.Counters, bool, error) {
			return sidecarapi.Counters{Instances: []sidecarapi.InstanceCounters{{Instance: "api-1"}}, Answers: []sidecarapi.Answers{{Backend: "api"}}}, true, nil
		},
		Decisions:   func() any { return sampleRecord() },
		Deployments: func(context.Context) (any, error) { return daemon.DeploymentsOf([]history.Page{page}, noon), nil },
		Rollouts: func(context.Context) (any, error) {
			return daemon.Rollouts{Rollouts: []daemon.OneRollout{{Service: "api", Index: 7, Document: sampleRollout(), Report: &rollout.Report{Leader: "lb0", StepAt: noon}, Actions: sampleRollout().Options()}}}, nil
		},
		Parts: func() (any, []reconcile.ServiceState) { return daemon.HeadOf(s) },
		Watch: func() (api.Facts, <-chan struct{}) { return daemon.Facts{State: s}, nil }, Events: log,
		Ready: func() (bool, string) { return true, "" }, Alive: func() error { return nil },
		Release: func(context.Context, string) ([]string, bool, error) { return []string{"api-1"}, true, nil },
		SetDrain: func(_ context.Context, _, server string, _ bool) (string, bool, error) {
			return server, true, nil
		},
		SetMaintenance: func(context.Context, bool) (bool, error) { return true, nil },
		Paused: func(_ context.Context, service string) (sidecarapi.Pause, bool, error) {
			return sidecarapi.Pause{LoadBalancer: "lb0", Service: service, Until: noon}, true, nil
		},
		SetPause: func(_ context.Context, service string, hold time.Duration, _ string) (any, bool, error) {
			return daemon.PauseChanged{LoadBalancer: "lb0", Document: (&pause.Document{Service: service}).Pause("API of lb0", "", noon, hold)}, false, nil
		},
		RequestReload: func(_ context.Context, by string) (sidecarapi.ReloadRequest, bool, error) {
			return sidecarapi.ReloadRequest{Number: 1, By: by, At: noon, Status: "due"}, false, nil
		},
		RolloutChanges: rollout.Actions,
		ChangeRollout: func(context.Context, string, string, time.Time) (any, bool, error) {
			return daemon.RolloutChanged{LoadBalancer: "lb0", Document: sampleRollout()}, false, nil
		},
	}
	server, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, op := range operations {
		route := op.route
		if route == "" {
			route = op.path
		}
		documented = append(documented, route)
		if !slices.Contains(server.Paths(), route) {
			t.Errorf("%s is documented, and the server does not have it", route)
		}
	}
	for _, path := range server.Paths() {
		if path != "/" && !strings.HasPrefix(path, "/ui/") && !slices.Contains(documented, path) {
			t.Errorf("%s is not documented", path)
		}
	}
	doc := openAPI(t)
	base := "http://" + served(t, o)
	for _, op := range operations {
		if op.ask == "" {
			continue
		}
		status, body := askFor(t, op.method, base+op.ask)
		if status != http.StatusOK {
			t.Errorf("%s %s: status %d", op.method, op.ask, status)
			continue
		}
		checkParameters(t, base, op)
		is := doc.Paths.Value(op.path).GetOperation(op.method).Responses.Status(200).Value.Content.Get("application/json").Schema.Value
		if err := is.VisitJSON(body); err != nil {
			t.Errorf("%s %s: %.600v", op.method, op.ask, err)
		}
	}
}
