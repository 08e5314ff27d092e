package rollout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

// fakeSource is a catalog that a test sets.
type fakeSource struct {
	snap    catalog.Snapshot
	at      map[string]time.Time // by backend, Health.Changed
	changes catalog.Changes
	woken   int
}

func (s *fakeSource) Snapshot() catalog.Snapshot { return s.snap }
func (s *fakeSource) Changed() <-chan struct{}   { return nil }
func (s *fakeSource) Wake()                      { s.woken++ }

func (s *fakeSource) Health(of string) catalog.SourceHealth {
	return catalog.SourceHealth{Changed: s.at[of]}
}

func (s *fakeSource) News(seen uint64, each func(string, time.Time)) uint64 {
	return s.changes.Since(seen, func(of string) { each(of, s.at[of]) })
}

func (s *fakeSource) answers(of string, at time.Time) {
	s.at[of] = at
	s.changes.Note(of)
}

type overlayScene struct {
	*testing.T
	*Overlay
	source *fakeSource
	log    bytes.Buffer
	index  uint64
}

func newOverlayScene(t *testing.T) *overlayScene {
	s := &overlayScene{T: t, source: &fakeSource{at: map[string]time.Time{}}}
	s.Overlay = NewOverlay(s.source, nil, []Backend{{Name: "api", Service: "api"}, {Name: "web", Service: "web"}}, hclog.New(&hclog.LoggerOptions{Output: &s.log}))
	s.source.snap = catalog.NewSnapshot(
		catalog.Service{Name: "api", Known: true, Instances: fleet(map[string]int{"1.0": 9, "1.1": 1})},
		catalog.Service{Name: "web", Known: true, Instances: fleet(map[string]int{"1.0": 2})})
	return s
}

// answer is one of Consul's, with the documents of services.
func (s *overlayScene) answer(values ...string) {
	var all []consul.Entry
	for _, v := range values {
		s.index++
		service, value, _ := strings.Cut(v, " ")
		all = append(all, consul.Entry{Key: Key(service), Value: []byte(value), Index: s.index})
	}
	s.take(all, nil)
}

// weights returns the weight of the first server of each version of api.
func (s *overlayScene) weights() string {
	svc := s.Snapshot().Service("api")
	if !svc.Known {
		return "unknown"
	}
	first := map[string]int{}
	for _, i := range svc.Instances {
		if _, has := first[i.Version]; !has {
			first[i.Version] = i.Weight
		}
	}
	return fmt.Sprint(first)
}

func (s *overlayScene) want(what, weights string) {
	s.Helper()
	if got := s.weights(); got != weights {
		s.Errorf("%s: the weights are %s, want %s", what, got, weights)
	}
}

func doc(shares string) string {
	return `api {"schema":1,"service":"api","state":"paused","shares":` + shares + `,"modified_by":"ann@ops","modified_at":"2026-11-29T22:00:00Z"}`
}

const own, canary = "map[1.0:1 1.1:1]", "map[1.0:255 1.1:121]"

func TestOverlay_Documents_BecomeWeights(t *testing.T) {
	s := newOverlayScene(t)
	s.want("before the documents are read", "unknown")
	s.answer()
	s.want("without a document", own)
	before := s.Health("api").Changed
	s.answer(doc(`{"1.0":95,"1.1":5}`))
	s.want("with one", canary)
	if after := s.Health("api").Changed; !after.After(before) || s.source.woken != 2 {
		t.Errorf("changed at %v, before %v, woken %d times: the agent does not come to know", after, before, s.source.woken)
	}
	if web := s.Health("web").Changed; web.After(s.Health("api").Changed) {
		t.Error("the other service has changed, too")
	}
	if i := s.Snapshot().Service("api").Instances[0]; !i.ByShare || i.ConsulWeight() != 1 {
		t.Errorf("got %+v, want its own weight of 1 beside its share", i)
	}
	if r := s.Snapshot().Service("api").Rollout; r == nil || r.State != "paused" || r.ModifiedBy != "ann@ops" || r.Shares[1] != (catalog.Share{Version: "1.1", Percent: 5, Instances: 1, Weight: 121}) {
		t.Errorf("the rollout is %+v", r)
	}
	if s.Snapshot().Service("web").Rollout != nil {
		t.Error("web has a rollout")
	}
	s.source.snap = s.source.snap.With(catalog.Service{Name: "api", Known: true, Instances: fleet(map[string]int{"1.0": 3, "1.1": 1})})
	s.want("with fewer instances", "map[1.0:255 1.1:40]")
	s.source.snap = s.source.snap.With(catalog.Service{Name: "api", Known: true, Instances: fleet(map[string]int{"1.0": 9, "1.1": 1})})

	for _, bad := range []string{"api nonsense", doc(`{"1.0":0,"1.1":0}`), `api {"schema":2}`} {
		s.answer(bad)
		s.answer(bad) // again: of another index
		s.want("with an invalid document", canary)
		if r := s.Snapshot().Service("api").Rollout; r == nil || !strings.Contains(r.Refused, "key pointsman/rollouts/api: ") {
			t.Errorf("the rollout is %+v, want the reason in it", r)
		}
	}
	s.take(nil, errors.New("no answer"))
	s.take(nil, errors.New("no answer"))
	s.want("while Consul does not answer", canary)
	if s.Err() == nil || strings.Count(s.log.String(), "rollouts cannot be read") != 1 {
		t.Errorf("error %v, the log is %s", s.Err(), s.log.String())
	}
	s.answer()
	s.want("without the document", own)
	if s.Err() != nil || s.Snapshot().Service("api").Rollout != nil {
		t.Errorf("error %v, rollout %+v", s.Err(), s.Snapshot().Service("api").Rollout)
	}
}

// The same invalid document is logged once, though Consul gives it with each change of
// another service's.
func TestOverlay_InvalidDocument_LoggedOnce(t *testing.T) {
	s := newOverlayScene(t)
	for range 3 {
		s.take([]consul.Entry{{Key: Key("api"), Value: []byte("x"), Index: 7}}, nil)
	}
	if n := strings.Count(s.log.String(), "invalid rollout ignored"); n != 1 {
		t.Errorf("logged %d times: %s", n, s.log.String())
	}
}

// Instances that Consul told of before the documents were read are news when these are. The
// agent must see who leaves among them.
func TestOverlay_FirstRead_IsAChangeOfEachService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newOverlayScene(t)
		time.Sleep(time.Second) // Consul answers for the services meanwhile
		answered := time.Now()
		time.Sleep(time.Second)
		s.answer()
		for _, backend := range []string{"api", "web"} {
			if at := s.Health(backend).Changed; !at.After(answered) {
				t.Errorf("%s changed at %v, and was known only after %v", backend, at, answered)
			}
		}
	})
}

// Consul has lost its data while it was away, and an operator has written a document again.
func TestOverlay_OtherDocumentAtTheSameIndex_IsTaken(t *testing.T) {
	s := newOverlayScene(t)
	s.answer(doc(`{"1.0":95,"1.1":5}`))
	s.want("before", canary)
	s.index--
	s.answer(doc(`{"1.0":100,"1.1":0}`))
	s.want("after", "map[1.0:255 1.1:0]")
}

// A service that new settings bring has its document at once.
func TestOverlay_NewBackend_HasTheDocumentThatWasRead(t *testing.T) {
	s := newOverlayScene(t)
	s.SetBackends(nil)
	s.answer(doc(`{"1.0":95,"1.1":5}`))
	s.want("without the backend", own)
	s.SetBackends([]Backend{{Name: "api", Service: "api"}})
	s.want("with it", canary)
}

// A token that may not read documents, or a Consul that does not give them for long,
// leaves the instances their own weights; a short failure does not.
func TestOverlay_CannotBeRead_InstancesWaitForSomeTime(t *testing.T) {
	s := newOverlayScene(t)
	s.take(nil, errors.New("no answer"))
	s.want("after one failure", "unknown")
	s.since = s.since.Add(-patience)
	s.take(nil, errors.New("no answer"))
	s.want("after a long one", own)
	if err := s.Err(); !errors.Is(err, catalog.ErrWithoutRollouts) {
		t.Errorf("error %v, want that no rollouts are used", err)
	}
	s.answer()
	s.take(nil, errors.New("no answer"))
	if err := s.Err(); err == nil || errors.Is(err, catalog.ErrWithoutRollouts) {
		t.Errorf("error %v: the last known stay", err)
	}
}

// hanging is a Consul that does not answer, and breaks no connection.
type hanging struct{}

func (hanging) Follow(ctx context.Context, _ string, _ func([]consul.Entry, error)) { <-ctx.Done() }

// A query may hang for longer than instances wait for it.
func TestOverlay_QueryHangs_InstancesWaitForSomeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newOverlayScene(t)
		known := s.source.snap
		s.kv, s.source.snap = hanging{}, catalog.NewSnapshot()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = s.Overlay.Run(ctx) })
		time.Sleep(time.Hour) // Consul gives no instances either
		s.mu.Lock()
		s.source.snap = known
		s.mu.Unlock()
		time.Sleep(patience - time.Second)
		s.want("before the time is over", "unknown")
		time.Sleep(3 * time.Second)
		s.want("after it", own)
		if err := s.Err(); !errors.Is(err, catalog.ErrWithoutRollouts) || s.source.woken == 0 {
			t.Errorf("error %v, woken %d times", err, s.source.woken)
		}
		s.answer(doc(`{"1.0":95,"1.1":5}`))
		s.want("when it answers at last", canary)
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
	})
}

func TestOverlay_FixedWeights_SharesOf0And100Only(t *testing.T) {
	b := Backend{Name: "api", Service: "api", Fixed: "balance source has no weights"}
	svc := catalog.Service{Name: "api", Known: true, Instances: fleet(map[string]int{"1.0": 1, "1.1": 1})}
	for _, c := range []struct {
		shares  map[string]int
		weights []int
		ignored bool
	}{
		{map[string]int{"1.0": 95, "1.1": 5}, []int{1, 1}, true},
		{map[string]int{"1.0": 0, "1.1": 100}, []int{0, 1}, false},
		{map[string]int{"1.0": 100, "1.1": 0}, []int{1, 0}, false},
	} {
		got := Lay(b, svc, &Document{Shares: c.shares}, "")
		if got.Instances[0].Weight != c.weights[0] || got.Instances[1].Weight != c.weights[1] || (got.Rollout.Ignored != "") != c.ignored {
			t.Errorf("%v: %+v, %+v", c.shares, got.Instances, got.Rollout)
		}
	}
}

// Of two operators at once one is refused, and told who the other is and when.
func TestStore_TwoOperatorsAtOnce_OneIsRefused(t *testing.T) {
	kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	store, ctx := Store{kv}, t.Context()
	set := func(by string, canary int) func(*Document) (*Document, error) {
		return func(d *Document) (*Document, error) {
			return d.Set(Author{by, ann.At}, map[string]int{"1.0": 100 - canary, "1.1": canary}, "1.0")
		}
	}
	change := func(mayReplace bool, f func(*Document) (*Document, error)) error {
		_, err := store.Change(ctx, "a/b", mayReplace, f)
		return err
	}
	for range 2 { // there is none before, and one
		err = change(false, func(d *Document) (*Document, error) {
			if err := change(false, set("bob@ops", 20)); err != nil {
				t.Fatal(err)
			}
			return set("ann@ops", 50)(d)
		})
		if refused, is := errors.AsType[*ChangedError](err); !is || refused.Is.ModifiedBy != "bob@ops" || !strings.Contains(err.Error(), "changed meanwhile by bob@ops at 2026-11-29T22:00:00Z, to paused, 1.0 80%, 1.1 20%") {
			t.Errorf("the second operator was told %v", err)
		}
	}
	if services, err := store.Services(ctx); err != nil || fmt.Sprint(services) != "[a/b]" {
		t.Errorf("services %v, %v", services, err)
	}
	_, index, err := store.Read(ctx, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Swap(ctx, Key("a/b"), []byte("x"), index); err != nil {
		t.Fatal(err)
	}
	abort := func(d *Document) (*Document, error) { return d.Abort(ann, "") }
	if _, is := errors.AsType[*InvalidError](change(false, abort)); !is {
		t.Error("an invalid document was changed")
	}
	if err := change(true, set("ann@ops", 5)); err != nil {
		t.Errorf("set does not replace an invalid document: %v", err)
	}
}

// A follower gets the documents of real Consul as they change, and an end of it.
func TestOverlay_Consul_FollowsTheDocuments(t *testing.T) {
	for name, address := range map[string]func(*testing.T) string{
		"fake": func(t *testing.T) string { t.Helper(); return consultest.NewFake(t).Address() },
		"real": func(t *testing.T) string { t.Helper(); return consultest.StartProcess(t).Address() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			options := consul.Options{Address: address(t), WaitTime: time.Second}
			reader, err := consul.NewKV(options)
			if err != nil {
				t.Fatal(err)
			}
			writer, err := consul.NewKV(options)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			got := make(chan string, 100)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				reader.Follow(ctx, string(Prefix), func(all []consul.Entry, err error) {
					text := fmt.Sprint(err)
					for _, e := range all {
						text += " " + e.Key + "=" + string(e.Value)
					}
					got <- text
				})
			}()
			next := func(want string) {
				t.Helper()
				for last := ""; ; {
					select {
					case last = <-got:
						if last == want {
							return
						}
					case <-ctx.Done():
						t.Fatalf("the last answer is %q, want %q", last, want)
					}
				}
			}
			next("<nil>")
			for n, value := range []string{"one", "two"} {
				e, err := writer.Get(ctx, Key("api"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := writer.Swap(ctx, Key("api"), []byte(value), e.Index); err != nil {
					t.Fatal(n, err)
				}
				next("<nil> pointsman/rollouts/api=" + value)
			}
			if _, err := writer.Swap(ctx, "other", []byte("x"), 0); err != nil {
				t.Fatal(err)
			}
			cancel()
			<-ended
		})
	}
}

// A preview backend has the canary's instances with their own weights, whatever the
// shares are, from the same answer. The others lack its role. Without a rollout all do.
func TestOverlay_Preview_HasTheCanaryOnly(t *testing.T) {
	s := newOverlayScene(t)
	s.SetBackends([]Backend{{Name: "api", Service: "api"}, {Name: "api.preview", Service: "api", PreviewOf: "api"}, {Name: "web.preview", Service: "web", PreviewOf: "gone"}})
	if s.Snapshot().Service("api.preview").Known {
		t.Error("it is known before the documents are read")
	}
	s.answer()
	with := func(canary, shares string) string {
		return strings.Replace(doc(shares), `"modified_by"`, `"stable":"1.0","canary":"`+canary+`","modified_by"`, 1)
	}
	for _, c := range []struct{ what, document, has string }{
		{"no document", "", "map[]"},
		{"share 0", with("1.1", `{"1.0":100,"1.1":0}`), "map[1.1:1]"},
		{"some", with("1.1", `{"1.0":95,"1.1":5}`), "map[1.1:1]"},
		{"switched", with("1.1", `{"1.0":0,"1.1":100}`), "map[1.1:1]"},
		{"no instance", with("1.2", `{"1.0":100,"1.2":0}`), "map[]"},
		{"no canary", doc(`{"1.0":100,"1.1":0}`), "map[]"},
		{"invalid: the last one stays", `api {"schema":1}`, "map[]"},
		{"ended", strings.Replace(with("1.1", `{}`), "paused", "promoted", 1), "map[]"},
		{"removed", "", "map[]"},
	} {
		if c.document == "" {
			s.answer()
		} else {
			s.answer(c.document)
		}
		svc := s.Snapshot().Service("api.preview")
		got := map[string]int{}
		for _, i := range svc.Instances {
			got[i.Version] = i.Weight
		}
		under := s.source.snap.Service("api")
		if fmt.Sprint(got) != c.has || !svc.Known || svc.Rollout == nil || svc.Rollout.State != Preview || len(svc.Instances)+len(svc.Untagged) != len(under.Instances) {
			t.Errorf("%s: it has %v, want %s; %+v", c.what, got, c.has, svc)
		}
		if !slices.IsSortedFunc(svc.Untagged, func(a, b catalog.Instance) int { return strings.Compare(a.Server, b.Server) }) || slices.ContainsFunc(svc.Untagged, func(i catalog.Instance) bool { return i.Weight > 0 || i.Version != "" }) {
			t.Errorf("%s: untagged are %+v", c.what, svc.Untagged)
		}
		if r := s.Snapshot().Service("api").Rollout; r != nil && r.State == Preview {
			t.Errorf("%s: the service itself is a preview", c.what)
		}
	}
	s.answer(with("1.1", `{"1.0":100,"1.1":0}`))
	before := s.Snapshot().Service("api.preview")
	s.source.snap = s.source.snap.With(catalog.Service{Name: "api", Known: true, Index: 7, Instances: fleet(map[string]int{"1.0": 1, "1.1": 3})})
	if after := s.Snapshot().Service("api.preview"); len(before.Instances) != 1 || len(after.Instances) != 3 || after.Index != 7 {
		t.Errorf("with more instances it has %d, before %d, index %d", len(after.Instances), len(before.Instances), after.Index)
	}
	if s.Snapshot().Service("web.preview").Known {
		t.Error("the preview of a backend without an answer is known")
	}
}

// A look sees the backends whose instances, document or settings have changed since the one
// before, and a preview with its service.
func TestNews_OfInstancesDocumentsAndSettings_EachOnce(t *testing.T) {
	s := newOverlayScene(t)
	backends := []Backend{{Name: "api", Service: "api"}, {Name: "api.preview", Service: "api", PreviewOf: "api"}, {Name: "web", Service: "web"}}
	s.SetBackends(backends)
	var seen uint64
	want := func(what string, want ...string) {
		t.Helper()
		got := map[string]time.Time{}
		seen = s.News(seen, func(backend string, changed time.Time) { got[backend] = changed })
		if is := slices.Sorted(maps.Keys(got)); !slices.Equal(is, want) {
			t.Errorf("%s: got %q, want %q", what, is, want)
		}
		for backend, changed := range got {
			if at := s.Health(backend).Changed; changed.IsZero() || !changed.Equal(at) {
				t.Errorf("%s: %s changed at %v, want %v", what, backend, changed, at)
			}
		}
	}
	want("at first", "api", "api.preview", "web")
	want("nothing has changed")
	s.take(nil, nil)
	want("what Consul says can be used now", "api", "api.preview", "web")
	later := time.Now().Add(time.Hour)
	s.source.answers("api", later)
	s.source.answers("other", later)
	want("an answer about api", "api", "api.preview")
	s.source.answers("web", later.Add(time.Second))
	s.source.answers("api", later.Add(time.Second))
	want("two answers", "api", "api.preview", "web")
	s.take([]consul.Entry{{Key: Key("web"), Index: 7, Value: []byte(`{"schema": 1, "shares": {"1.0": 100}, "state": "paused"}`)}}, nil)
	want("a document", "web")
	s.SetBackends(append(backends, Backend{Name: "other", Service: "other"}))
	want("other settings", "other")
	s.SetBackends(backends[:1])
	s.source.answers("web", later.Add(time.Minute))
	want("of what is no backend any more")
}
