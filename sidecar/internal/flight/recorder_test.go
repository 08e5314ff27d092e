package flight

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

var at = netip.MustParseAddrPort("10.0.0.1:80")

// observed has something in each of its fields, of the backends a and b.
func observed() plan.Observed {
	server := plan.Server{ID: 1, Name: "a-1", Addr: at, Up: true, Weight: 1, ConfigWeight: 1, Checked: true, Check: plan.Check{Status: "L7STS", Words: "a secret"}}
	return plan.Observed{
		Running: true, Caps: plan.Capabilities{Version: "3.4.7", Dynamic: true}, PID: 7, Marker: plan.Marker{Template: "t"}, Maintenance: true,
		Backends: map[string]plan.Backend{"a": {Servers: []plan.Server{server}}, "b": {}},
		Flapping: map[string]map[string]bool{"a": {"a-1": true}, "b": nil},
		Drained:  map[string]map[string]int{"a": {"a-1": 1}, "b": nil},
		Last:     map[string][]plan.FileServer{"a": {{Name: "a-1"}}, "b": nil},
		Guards:   map[string]plan.Guard{"a": {Lost: map[string]time.Duration{"a-1": 1}}, "b": {}},
		Absent:   map[string]map[string]time.Duration{"a": {"a-1": 1}, "b": nil},
		Ended:    map[string]map[string]time.Duration{"a": {"a-1": 1}, "b": nil},
		Refused:  map[string]string{"a": "taken", "b": ""},
		Listed:   map[netip.AddrPort]string{at: "a", netip.MustParseAddrPort("10.0.0.2:80"): "b"},
	}
}

func TestOf_OneBackend_KeepsAllThatConcernsIt(t *testing.T) {
	all := observed()
	got, whole := reflect.ValueOf(of("a", all)), reflect.ValueOf(all)
	for i := range got.NumField() {
		name, g, w := got.Type().Field(i).Name, got.Field(i), whole.Field(i)
		if w.IsZero() {
			t.Fatalf("%s: the test has nothing in it", name)
		}
		if g.Kind() != reflect.Map {
			if !g.Equal(w) {
				t.Errorf("%s: got %v, want %v", name, g, w)
			}
			continue
		}
		key := reflect.ValueOf("a")
		if name == "Listed" {
			key = reflect.ValueOf(at)
		}
		if g.Len() != 1 || !reflect.DeepEqual(g.MapIndex(key).Interface(), w.MapIndex(key).Interface()) {
			t.Errorf("%s: got %v, want only what concerns a of %v", name, g, w)
		}
	}
}

func policy(backend string) plan.Service {
	return plan.Service{Name: backend, Backend: backend, Checked: true, Warning: true, MaxLossRatio: 1}
}

func TestRecorder_WhatIsKept_IsBounded(t *testing.T) {
	r, now := NewRecorder(time.Now), observed()
	now.Guards, now.Flapping, now.Drained, now.Absent = nil, nil, nil, nil
	decide := func(backend string, want catalog.Service) {
		s := policy(backend)
		r.Decided(s, now, want, plan.Decide(s, now, want))
	}
	known := catalog.Service{Name: "a", Known: true, Instances: []catalog.Instance{{ID: "a-1", Server: "a-1", Addr: at, Weight: 1}}}
	for range 5 {
		decide("a", known) // nothing is to be done
	}
	got := r.Decisions()
	if len(got) != 1 || got[0].Repeated != 4 {
		t.Fatalf("got %d decisions, the first repeated %d times; want one for five that took no step", len(got), got[0].Repeated)
	}
	for n := range uint64(2 * maxDecisions) {
		known.Index = n + 1 // another answer each time
		decide("a", known)
	}
	if n := len(r.Decisions()); n != maxDecisions {
		t.Errorf("got %d decisions, want the newest %d", n, maxDecisions)
	}
	large := known
	large.Instances = make([]catalog.Instance, maxItems/2)
	for range 3 {
		large.Index++
		r.Decided(policy("a"), now, large, plan.Decide(policy("a"), now, known))
	}
	if n := len(r.Decisions()); n > 2 || r.items > maxItems {
		t.Errorf("got %d decisions with %d servers and instances, want at most %d", n, r.items, maxItems)
	}
	large.Instances, large.Index = make([]catalog.Instance, 2*maxItems), 0
	r.Decided(policy("a"), now, large, plan.Decide(policy("a"), now, known))
	if n := len(r.Decisions()); n != 1 {
		t.Errorf("got %d decisions, want the newest, however large", n)
	}
}

func TestRecorder_LongNames_CountMore(t *testing.T) {
	r, now := NewRecorder(time.Now), observed()
	s := policy("a")
	want := catalog.Service{Name: "a", Known: true}
	for range 10 {
		want.Instances = append(want.Instances, catalog.Instance{ID: strings.Repeat("x", 10<<10), Server: "a-1", Addr: at, Weight: 1})
	}
	for range maxDecisions {
		want.Index++
		r.Decided(s, now, want, plan.Decide(s, now, want))
	}
	if n := len(r.Decisions()); n*len(want.Instances)*10<<10 > maxItems*itemBytes {
		t.Errorf("%d decisions with 10 names of 10 KB each are kept", n)
	}
}

func TestRecorder_OneServiceHasMost_LosesItsOldest(t *testing.T) {
	r, now := NewRecorder(time.Now), observed()
	decide := func(backend string, index uint64, instances int) {
		s := policy(backend)
		want := catalog.Service{Name: backend, Known: true, Index: index, Instances: make([]catalog.Instance, instances)}
		r.Decided(s, now, want, plan.Decide(s, now, catalog.Service{Name: backend, Known: true}))
	}
	decide("b", 1, 1)
	decide("b", 2, 1)
	for n := range uint64(10) {
		decide("a", n, maxItems/4)
	}
	of := map[string]int{}
	for _, d := range r.Decisions() {
		of[d.Service.Backend]++
	}
	if of["b"] != 2 || of["a"] < 2 || of["a"] > 4 {
		t.Errorf("got %v, want both of b, and the newest of a", of)
	}
}

// A step that HAProxy refuses is decided again and again.
func TestRecorder_TheSameAgain_IsCounted(t *testing.T) {
	r, now := NewRecorder(time.Now), observed()
	now.Marker = plan.Marker{Template: "t"}
	s := policy("a")
	want := catalog.Service{Name: "a", Known: true, Instances: []catalog.Instance{{ID: "a-2", Server: "a-2", Addr: at, Weight: 1}}}
	for range 5 {
		r.Decided(s, now, want, plan.Decide(s, now, want))
	}
	got := r.Decisions()
	if len(got) != 1 || got[0].Repeated != 4 || len(got[0].Outcome.Steps) == 0 {
		t.Errorf("got %d decisions, %+v; want one with steps for the five", len(got), got[0].Outcome)
	}
}

func TestFile_Written_IsReadAsItWas(t *testing.T) {
	r, now := NewRecorder(func() time.Time { return time.Unix(1, 0).UTC() }), observed()
	want := catalog.Service{Name: "a", Known: true, Index: 3, Instances: []catalog.Instance{{ID: "a-2", Server: "a-2", Addr: netip.MustParseAddrPort("[::1]:80"), Weight: 1, Leaving: time.Unix(2, 0).UTC()}}}
	s := policy("a")
	s.Options, s.Path = "check agent-check agent-send agent-secret agent-port 9", "/healthz?token=query-secret"
	now.Backends["a"].Servers[0].Up = false // its check is waited for
	now.Drained, now.Guards, now.Flapping = nil, nil, nil
	want.Instances = append(want.Instances, catalog.Instance{ID: "a-1", Server: "a-1", Addr: at, Weight: 1})
	r.Decided(s, now, want, plan.Decide(s, of("a", now), want))
	whole := NewFile("lb0", "1.2", time.Unix(3, 0).UTC(), r.Decisions())
	text := encoded(t, whole)
	got, err := Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(encoded(t, got), text); diff != "" {
		t.Errorf("read and written again (-got +want):\n%s", diff)
	}
	for _, secret := range []string{"agent-secret", "query-secret"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the file has %s", secret)
		}
	}
	if again, err := got.Decisions[0].Again(); err != nil || !IsSame(again, whole.Decisions[0].Outcome) {
		t.Errorf("decided again: got %+v (error: %v), want %+v", again, err, whole.Decisions[0].Outcome)
	}
	if !strings.Contains(string(text), "a secret") {
		t.Fatal("the file has no answer of a check")
	}
	if !slices.ContainsFunc(whole.Decisions[0].Outcome.Waiting, func(w plan.Waiting) bool { return w.Check.Words != "" }) {
		t.Fatalf("no check is waited for: %+v", whole.Decisions[0].Outcome)
	}
	if silent := encoded(t, whole.WithoutChecks()); strings.Contains(string(silent), "a secret") {
		t.Errorf("without checks the file has %s", silent)
	}
	if now := encoded(t, whole); !bytes.Equal(now, text) {
		t.Error("WithoutChecks has changed the file that it was made of")
	}
}

func encoded(t *testing.T, f File) []byte {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRead_WhatIsNoFile_IsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no JSON":          {"haproxy", "no record of decisions"},
		"another schema":   {`{"schema": 2}`, "this program reads schema 1"},
		"an unknown field": {`{"schema": 1, "decisions": [{"serveur": {}}]}`, `unknown field "serveur"`},
		"null":             {`{"schema": 1, "decisions": [null]}`, "decisions[0]: null"},
		"too many":         {`{"schema": 1, "decisions": [` + strings.Repeat("{},", maxObjects) + `{}]}`, "objects, want at most"},
	} {
		if _, err := Read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}

// A file may be anyone's: what is in it ends no program.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema": 1, "decisions": [{"service": {"Backend": "a"}, "haproxy": {"Running": true, "Backends": {"a": {"Servers": [{"Name": "a-1", "Addr": "10.0.0.1:80"}]}}}, "consul": {"known": true, "instances": [{"Server": "a-2"}]}}]}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		file, err := Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, d := range file.Decisions {
			_, _ = d.Again() // an error is fine
		}
	})
}
