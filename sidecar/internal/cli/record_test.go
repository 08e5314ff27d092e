package cli

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/event"
	"github.com/pointsman/pointsman/sidecar/internal/flight"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// sampleRecord is a record of two decisions: one adds a server, one waits for its check.
func sampleRecord() flight.File {
	r := flight.NewRecorder(func() time.Time { return noon })
	s := plan.Service{Name: "api", Backend: "api_nodes", Checked: true, Path: "/healthz", Operator: []string{}}
	want := catalog.Service{Name: "api_nodes", Known: true, Index: 7, Instances: []catalog.Instance{{ID: "api-1\x1b", Server: "api-1", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1}}}
	o := plan.Observed{Running: true, Caps: plan.Capabilities{Dynamic: true}, Marker: plan.Marker{Template: "t"}, Backends: map[string]plan.Backend{"api_nodes": {Servers: []plan.Server{}, Left: []plan.FileServer{}}}}
	r.Decided(s, o, want, plan.Decide(s, o, want))
	o.Backends = map[string]plan.Backend{"api_nodes": {Left: []plan.FileServer{}, Servers: []plan.Server{{
		ID: 1, Name: "api-1", Addr: want.Instances[0].Addr, Weight: 1, ConfigWeight: 1, Checked: true, Check: plan.Check{Status: "L7STS", Code: 503, Words: "Unavailable"},
	}}}}
	r.Decided(s, o, want, plan.Decide(s, o, want))
	return flight.NewFile("lb0", "1.2", noon, r.Decisions())
}

func TestRecord_Saved_IsReplayed(t *testing.T) {
	at := served(t, api.Options{State: func() any { return nil }, Decisions: func() any { return sampleRecord() }})
	for _, name := range []string{"a.json", "a.json.gz"} {
		path := filepath.Join(t.TempDir(), name)
		code, out, _ := sidecar(t, at, "record", path)
		if want := path + ": 2 decisions since 2026-11-29T12:00:00Z\n"; code != ExitOK || out != want {
			t.Fatalf("record: got code %d and %q, want %q", code, out, want)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v (error: %v), want 0600", info.Mode(), err)
		}
		if content, err := os.ReadFile(path); err != nil || strings.HasPrefix(string(content), "\x1f\x8b") != strings.HasSuffix(name, ".gz") {
			t.Errorf("%s: compressed or not, other than its name says (error: %v)", name, err)
		}
		if code, _, errs := sidecar(t, at, "record", path); code != ExitFailure || !strings.Contains(errs, "file exists") {
			t.Errorf("a second time: got code %d and %q, want that the file exists", code, errs)
		}
		code, out, _ = sidecar(t, at, "replay", "--all", path)
		for _, want := range []string{
			"load balancer lb0, pointsman 1.2", "decision 1: Consul lists 1 instances at index 7, HAProxy has 0 servers", "add api-1 (api-1·) 10.0.0.1:80: registered",
			"api-1 (api-1·) waits for check: L7STS 503: GET /healthz → 503 Unavailable",
		} {
			if code != ExitOK || !strings.Contains(out, want) {
				t.Errorf("replay: got code %d, want %q in\n%s", code, want, out)
			}
		}
		if _, out, _ := sidecar(t, at, "replay", path); strings.Contains(out, "decision 2") {
			t.Errorf("without --all, what took no step is shown:\n%s", out)
		}
		if _, out, _ := sidecar(t, at, "replay", "--service", "shop", path); !strings.Contains(out, "no decision took a step") {
			t.Errorf("of another service:\n%s", out)
		}
	}
}

func TestReplay_AnotherDecision_IsShownAndFails(t *testing.T) {
	f := sampleRecord()
	f.Decisions[1].Outcome = plan.Outcome{Steps: []plan.Step{{Kind: plan.SetMaint, Reason: plan.Unhealthy, Server: "api-1"}}}
	f.Decisions[0].HAProxy.Backends = nil // another reload
	var out strings.Builder
	differ, err := replay(&out, f, "", false)
	if err != nil || differ != 2 {
		t.Fatalf("got %d that differ (error: %v), want both", differ, err)
	}
	for _, want := range []string{"maint api-1: unhealthy", "DIFFERS: this program decides", "reload: service_added", "api-1 (api-1·) waits for check"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
	if code, _, errs := sidecar(t, "127.0.0.1:1", "replay", filepath.Join(t.TempDir(), "none")); code != ExitFailure || !strings.Contains(errs, "no such file") {
		t.Errorf("no file: got code %d and %q", code, errs)
	}
}

// Anything may listen on the port.
func TestRecordAndExplain_AnswersOfSomethingElse_Refused(t *testing.T) {
	at := served(t, api.Options{State: func() any { return struct{}{} }, Decisions: func() any { return struct{}{} }, Events: event.NewLog(noon)})
	path, noState := filepath.Join(t.TempDir(), "record.json"), "invalid answer: it has no state"
	for args, want := range map[string]string{
		"record " + path: "invalid answer: schema 0",
		"explain x":      noState, "explain service api": noState, "explain reload": noState, "explain route a.test/": noState,
	} {
		if code, _, errs := sidecar(t, at, strings.Fields(args)...); code != ExitFailure || !strings.Contains(errs, want) {
			t.Errorf("%q: got code %d and %q, want %q", args, code, errs, want)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file is left")
	}
}
