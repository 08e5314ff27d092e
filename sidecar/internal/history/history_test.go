package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

func newBook(t *testing.T, address string) *Book {
	t.Helper()
	kv, err := consul.NewKV(consul.Options{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kv.Close)
	return &Book{KV: kv}
}

func order(id, version string) Deployment {
	return Deployment{ID: id, Service: "api", Version: version, By: "ann@build1", Started: time.Now()}
}

func begin(t *testing.T, b *Book, d Deployment) (context.Context, *Entry) {
	t.Helper()
	ctx, e, err := b.Begin(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, e
}

func read(t *testing.T, b *Book) Page {
	t.Helper()
	p, err := b.Read(t.Context(), "api")
	if err != nil || p.Problem != "" {
		t.Fatalf("read: %v %s", err, p.Problem)
	}
	return p
}

// Two deployments at once would stop each other's nodes.
func TestBegin_AnotherIsUnderWay_RefusedWithWhoAndWhat(t *testing.T) {
	b := newBook(t, consultest.StartProcess(t).Address())
	_, first := begin(t, b, order("one", "1.1"))
	if p := read(t, b); !p.IsLocked || p.Deployments[0].StateOf(p.IsLocked) != UnderWay {
		t.Errorf("under way: %+v", p)
	}
	_, _, err := b.Begin(t.Context(), order("two", "1.2"))
	if locked, is := errors.AsType[*LockedError](err); !is || locked.By.ID != "one" || !strings.Contains(err.Error(), `version "1.1", started by "ann@build1"`) {
		t.Errorf("the second: %v", err)
	}
	first.Begins(deploy.Step{Name: "start", Started: time.Now()})
	first.Begins(deploy.Step{Name: "wait until live", Started: time.Now()})
	if err := first.End(t.Context(), deploy.Result{Outcome: deploy.Deployed, OldVersion: "1.0", Count: 3}); err != nil {
		t.Fatal(err)
	}
	p := read(t, b)
	d := p.Deployments[0]
	if p.IsLocked || d.StateOf(false) != Done || d.OldVersion != "1.0" || len(d.Steps) != 2 || d.Steps[0].Ended.IsZero() || d.Steps[1].Ended.IsZero() {
		t.Errorf("after the end: locked %v, %+v", p.IsLocked, d)
	}
	_, second := begin(t, b, order("two", "1.2"))
	if err := second.End(t.Context(), deploy.Result{Outcome: deploy.Failed}); err != nil {
		t.Fatal(err)
	}
	if p = read(t, b); len(p.Deployments) != 2 || p.Deployments[0].ID != "two" || p.Deployments[0].StateOf(false) != Failed {
		t.Errorf("the history: %+v", p.Deployments)
	}
	if version, id, found := p.Before(); !found || version != "1.0" || id != "one" {
		t.Errorf("before: %q %q %v, want 1.0 of the one that changed something", version, id, found)
	}
}

// A process that was killed holds no lock for longer than its session lives, and its
// deployment is not shown as under way for ever.
func TestBegin_TheLastOneWasKilled_LostAndTheNextMayBegin(t *testing.T) {
	fake := consultest.NewFake(t)
	b := newBook(t, fake.Address())
	_, killed := begin(t, b, order("one", "1.1"))
	killed.end() // nothing renews it, and no result is written
	<-killed.done
	fake.EndSessions()
	if p := read(t, b); p.Deployments[0].StateOf(p.IsLocked) != Lost {
		t.Errorf("state %s, want lost", p.Deployments[0].StateOf(p.IsLocked))
	}
	_, next := begin(t, b, order("two", "1.1"))
	if err := next.End(t.Context(), deploy.Result{Outcome: deploy.Deployed}); err != nil {
		t.Fatal(err)
	}
}

// An undo that passes over a killed deployment rolls back one version too far.
func TestBefore_TheNewestWasKilled_ItIsWhatIsUndone(t *testing.T) {
	at := func(id, old, version string, o deploy.Outcome) Deployment {
		d := order(id, version)
		d.OldVersion, d.Outcome = old, o
		return d
	}
	first, second := at("a", "", "1.0", deploy.Deployed), at("b", "1.0", "1.1", deploy.Deployed)
	for name, c := range map[string]struct {
		list     []Deployment
		isLocked bool
		version  string
		id       string
	}{
		"it says what it replaces":      {list: []Deployment{at("c", "1.1", "1.2", ""), second, first}, version: "1.1", id: "c"},
		"it does not":                   {list: []Deployment{at("c", "", "1.2", ""), second, first}, version: "1.1", id: "c"},
		"nor does the one before":       {list: []Deployment{at("d", "", "1.3", ""), at("c", "", "1.2", ""), second, first}, version: "1.1", id: "d"},
		"another began after it":        {list: []Deployment{at("d", "", "1.3", ""), at("c", "", "1.2", ""), second}, isLocked: true, version: "1.1", id: "c"},
		"it was a second go":            {list: []Deployment{at("c", "", "1.1", ""), second, first}, version: "1.0", id: "b"},
		"nothing was deployed before":   {list: []Deployment{at("c", "", "1.2", ""), at("b", "1.0", "1.1", deploy.Halfway)}, id: "c"},
		"the first of all":              {list: []Deployment{first}, id: "a"},
		"a failed one changed nothing":  {list: []Deployment{at("c", "", "1.2", deploy.Failed), second, first}, version: "1.0", id: "b"},
		"the same version was replaced": {list: []Deployment{at("c", "1.1", "1.1", deploy.Deployed), second, first}, version: "1.0", id: "b"},
	} {
		p := Page{IsLocked: c.isLocked}
		p.Deployments = c.list
		if version, id, found := p.Before(); version != c.version || id != c.id || found != (c.version != "") {
			t.Errorf("%s: got %q of %q, %v; want %q of %q", name, version, id, found, c.version, c.id)
		}
	}
}

func TestEntry_Killed_WhatItReplacesIsOnRecord(t *testing.T) {
	b := newBook(t, consultest.NewFake(t).Address())
	_, killed := begin(t, b, order("one", "1.1"))
	killed.Begins(deploy.Step{Name: "check", Started: time.Now()})
	killed.Begins(deploy.Step{Name: "start", Started: time.Now(), OldVersion: "1.0"})
	killed.end()
	<-killed.done
	if err := killed.write(t.Context()); err != nil { // as keep does, twice a second
		t.Fatal(err)
	}
	if d := read(t, b).Deployments[0]; d.OldVersion != "1.0" {
		t.Errorf("old version %q, want 1.0", d.OldVersion)
	}
}

// Consul forgets sessions, as when its agent restarts. The lock is taken again; if
// another has it, the deployment ends instead of going on beside it.
func TestEntry_SessionLost_TakesTheLockAgainOrEnds(t *testing.T) {
	fake := consultest.NewFake(t)
	b := newBook(t, fake.Address())
	ctx, first := begin(t, b, order("one", "1.1"))
	fake.EndSessions()
	first.again(t.Context())
	if p := read(t, b); !p.IsLocked || ctx.Err() != nil {
		t.Fatalf("not taken again: locked %v, %v", p.IsLocked, context.Cause(ctx))
	}
	fake.EndSessions()
	_, second := begin(t, b, order("two", "1.2"))
	first.again(t.Context())
	if err := context.Cause(ctx); err == nil || !strings.Contains(err.Error(), "lock lost: another deployment is under way") {
		t.Errorf("the first goes on: %v", err)
	}
	for _, e := range []*Entry{first, second} {
		if err := e.End(t.Context(), deploy.Result{Outcome: deploy.Interrupted}); err != nil {
			t.Error(err)
		}
	}
	if p := read(t, b); len(p.Deployments) != 2 {
		t.Errorf("one has overwritten the other: %+v", p.Deployments)
	}
}

func TestDocument_VeryMuch_StaysBelowConsulsBound(t *testing.T) {
	long := strings.Repeat("x", 5000)
	d := Document{Format: Format, Service: "api"}
	for i := range 50 {
		one := order(fmt.Sprint(i), long)
		for range 500 {
			one.Steps = append(one.Steps, deploy.Step{Name: long, Detail: long, AtDeadline: long})
			one.LoadBalancers = append(one.LoadBalancers, deploy.Bar{Name: long, Trouble: long, Waits: long})
			one.Problems = append(one.Problems, long)
		}
		d.Deployments = append(d.Deployments, one)
	}
	out, err := d.encode()
	if err != nil || len(out) > maxBytes {
		t.Fatalf("%d bytes, %v; want at most %d", len(out), err, maxBytes)
	}
	back, err := decode("api", out)
	if err != nil || len(back.Deployments) == 0 || back.Deployments[0].ID != "0" {
		t.Errorf("the newest is lost: %d deployments, %v", len(back.Deployments), err)
	}
}

func TestDecode_Hostile_AProblemAndNothingElse(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":         "<html>",
		"null":            "null",
		"a newer format":  `{"format":2,"service":"api"}`,
		"another service": `{"format":1,"service":"mail"}`,
		"too large":       `{"format":1,"service":"` + strings.Repeat("x", 3*maxBytes) + `"}`,
		"a wrong type":    `{"format":1,"service":"api","deployments":{}}`,
	} {
		if d, err := decode("api", []byte(text)); err == nil || len(d.Deployments) > 0 {
			t.Errorf("%s: %+v, error %v", name, d, err)
		}
	}
	d, err := decode("api", []byte(`{"format":1,"service":"api","deployments":[{"by":"`+strings.Repeat("x", 4000)+`"}]}`))
	if err != nil || len(d.Deployments[0].By) > maxText+3 || d.Deployments[0].Steps == nil {
		t.Errorf("not bounded: %v, %d bytes", err, len(d.Deployments[0].By))
	}
}

// What is there and cannot be read is not overwritten.
func TestBegin_RecordUnreadable_RefusedAndKept(t *testing.T) {
	b := newBook(t, consultest.NewFake(t).Address())
	if _, err := b.KV.Swap(t.Context(), folder.Key("api"), []byte(`{"format":9}`), 0); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.Begin(t.Context(), order("one", "1.1"))
	if err == nil || !strings.Contains(err.Error(), "pointsman/deployments/api in Consul: format 9: this program reads 1") {
		t.Errorf("got %v", err)
	}
}

// With 300 services one answer with all documents was larger than what is read of Consul.
func TestAll_MoreThanOneAnswerTakes_EveryServiceIsThere(t *testing.T) {
	b := newBook(t, consultest.NewFake(t).Address())
	const n = 64 // of 200 KB, which base64 makes 17 MB
	for i := range n {
		d := Document{Format: Format, Service: fmt.Sprintf("s/%03d", i), Deployments: []Deployment{{ID: strings.Repeat("x", 200<<10)}}}
		value, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.KV.Swap(t.Context(), folder.Key(d.Service), value, 0); err != nil {
			t.Fatal(err)
		}
	}
	all, err := b.All(t.Context())
	if err != nil || len(all) != n || all[0].Service != "s/000" || all[n-1].Service != "s/063" || len(all[n-1].Deployments) != 1 {
		t.Errorf("%d services, %v", len(all), err)
	}
}
