package rollout

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

// Each verdict, before and after the step has lasted its interval.
func TestNext_ByVerdictAndTime(t *testing.T) {
	at := func(after time.Duration) Author { return Author{"lb0", ann.At.Add(after)} }
	begun, err := New("api").Start(ann, "1.0", "1.1", []int{5, 50, 100}, time.Minute, "")
	if err != nil {
		t.Fatal(err)
	}
	second := begun.Next(at(time.Minute), Judgement{Verdict: Pass})
	paused, err := begun.Pause(ann, "")
	if err != nil {
		t.Fatal(err)
	}
	long, err := New("api").Start(ann, "1.0", "1.1", []int{5, 50, 100}, 2*time.Minute, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		from  *Document
		after time.Duration
		is    Judgement
		want  string // "": nothing
		why   string
	}{
		{"too early", begun, time.Minute - 1, Judgement{Pass, ""}, "", ""},
		{"a step", begun, time.Minute, Judgement{Pass, ""}, "running, 1.0 50%, 1.1 50%", ""},
		{"much later one step, too", begun, time.Hour, Judgement{Pass, ""}, "running, 1.0 50%, 1.1 50%", ""},
		{"the next one counts from there", second, 2*time.Minute - 1, Judgement{Pass, ""}, "", ""},
		{"the last one", second, 2 * time.Minute, Judgement{Pass, ""}, "promoted, 1.0 0%, 1.1 100%", ""},
		{"it waits", begun, 9 * time.Minute, Judgement{Wait, "no instance"}, "", ""},
		{"it waits for too long", begun, 10 * time.Minute, Judgement{Wait, "no instance"}, "paused, 1.0 95%, 1.1 5%", "no verdict within 10m0s: no instance"},
		{"ten intervals, if that is longer", long, 19 * time.Minute, Judgement{Wait, "no instance"}, "", ""},
		{"it fails, at once", begun, time.Second, Judgement{Fail, "5 % errors"}, "aborted, 1.0 100%, 1.1 0%", "5 % errors"},
		{"paused", paused, time.Hour, Judgement{Pass, ""}, "", ""},
		{"paused, and it fails", paused, time.Hour, Judgement{Fail, ""}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := c.from.Next(at(c.after), c.is)
			if n == nil {
				if c.want != "" {
					t.Errorf("nothing, want %s", c.want)
				}
				return
			}
			if got := describe(n); got != c.want || n.Reason != c.why || n.ModifiedBy != "lb0" {
				t.Errorf("got %s, %q by %s, want %s, %q", got, n.Reason, n.ModifiedBy, c.want, c.why)
			}
			if _, err := n.Encode(); err != nil {
				t.Error(err)
			}
		})
	}
}

// moverScene is two movers on one Consul, with a clock of their own.
type moverScene struct {
	*testing.T
	fake    *consultest.Fake
	store   Store
	now     time.Time
	verdict Judgement
	forgot  []string // by which, as each begins to lead
	a, b    *Mover
}

func newMoverScene(t *testing.T) *moverScene {
	s := &moverScene{T: t, fake: consultest.NewFake(t), now: ann.At, verdict: Judgement{Verdict: Pass}}
	kv := func() *consul.KV {
		kv, err := consul.NewKV(consul.Options{Address: s.fake.Address()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(kv.Close)
		return kv
	}
	s.store = Store{kv()}
	mover := func(name string) *Mover {
		return &Mover{
			KV: kv(), Name: name, Now: func() time.Time { return s.now }, Log: hclog.NewNullLogger(),
			Forget: func(service string) { s.forgot = append(s.forgot, name+" "+service) },
			Judge:  func(context.Context, string, *Document) Judgement { return s.verdict },
			Running: func() map[string]*Document {
				if d := s.document(); d.State == Running {
					return map[string]*Document{"api": d}
				}
				return nil
			},
		}
	}
	s.a, s.b = mover("lb-a"), mover("lb-b")
	s.change(func(d *Document) (*Document, error) {
		return d.Start(ann, "1.0", "1.1", []int{5, 25, 50, 100}, time.Minute, "")
	})
	return s
}

func (s *moverScene) document() *Document {
	s.Helper()
	d, _, err := s.store.Read(context.Background(), "api")
	if err != nil {
		s.Fatal(err)
	}
	return d
}

func (s *moverScene) change(f func(*Document) (*Document, error)) {
	s.Helper()
	if _, err := s.store.Change(s.Context(), "api", false, f); err != nil {
		s.Fatal(err)
	}
}

// pass lets time go by, in which each of the movers moves every second.
func (s *moverScene) pass(d time.Duration, movers ...*Mover) {
	s.Helper()
	for range int(d / time.Second) {
		s.now = s.now.Add(time.Second)
		for _, m := range movers {
			if err := m.move(s.Context()); err != nil {
				s.Fatal(err)
			}
		}
	}
}

func (s *moverScene) want(what, is, by string) {
	s.Helper()
	if d := s.document(); describe(d) != is || d.ModifiedBy != by {
		s.Errorf("%s: %s by %s, want %s by %s", what, describe(d), d.ModifiedBy, is, by)
	}
}

// One of two sidecars moves; when it is killed or stops, the other goes on where it was.
func TestMover_LeaderEnds_AnotherGoesOn(t *testing.T) {
	s := newMoverScene(t)
	s.pass(59*time.Second, s.a, s.b)
	s.want("before the interval", "running, 1.0 95%, 1.1 5%", "ann@ops")
	s.pass(time.Second, s.b, s.a) // the lock decides, not the order
	s.want("after it", "running, 1.0 75%, 1.1 25%", "lb-a")

	s.pass(30*time.Second, s.b) // a is killed, and Consul has not noticed
	s.pass(time.Minute, s.b)
	s.want("before its session ends", "running, 1.0 75%, 1.1 25%", "lb-a")
	s.fake.EndSessions() // b's has ended, too
	s.pass(renewEvery+time.Second, s.b)
	s.want("after it", "running, 1.0 50%, 1.1 50%", "lb-b")

	s.b.resign(t.Context())
	s.pass(time.Minute, s.a)
	s.want("after the other has stopped", "promoted, 1.0 0%, 1.1 100%", "lb-a")
	s.pass(time.Second, s.a)
	if s.a.session != "" {
		t.Error("it leads when nothing runs")
	}
	if got := strings.Join(s.forgot, ", "); got != "lb-a api, lb-b api, lb-a api" {
		t.Errorf("what was known was forgotten by %s: a comparison of before goes on", got)
	}
}

// Nothing moves while it is paused, waits, or Consul does not answer; a failure ends it.
func TestMover_PausedOrAway_NothingMoves(t *testing.T) {
	s := newMoverScene(t)
	s.change(func(d *Document) (*Document, error) { return d.Pause(Author{"ann@ops", s.now}, "") })
	s.pass(5*time.Minute, s.a)
	s.want("paused", "paused, 1.0 95%, 1.1 5%", "ann@ops")
	s.change(func(d *Document) (*Document, error) { return d.Resume(Author{"ann@ops", s.now}) })
	s.pass(59*time.Second, s.a)
	s.want("its interval begins again", "running, 1.0 95%, 1.1 5%", "ann@ops")

	known := s.document()
	s.a.Running = func() map[string]*Document { return map[string]*Document{"api": known} }
	s.fake.Break(consultest.Close())
	s.now = s.now.Add(time.Minute)
	if err := s.a.move(t.Context()); err == nil {
		t.Error("no error while Consul does not answer")
	}
	s.fake.Mend()
	s.fake.EndSessions() // its time is over
	s.want("Consul away", "running, 1.0 95%, 1.1 5%", "ann@ops")

	// What it knows is old: it was paused since.
	s.change(func(d *Document) (*Document, error) { return d.Pause(Author{"ann@ops", s.now}, "") })
	s.pass(time.Minute, s.a)
	s.want("paused, and the sidecar does not know", "paused, 1.0 95%, 1.1 5%", "ann@ops")

	s.change(func(d *Document) (*Document, error) { return d.Resume(Author{"ann@ops", s.now}) })
	known = s.document()
	s.verdict = Judgement{Fail, "5 % errors"}
	s.pass(time.Second, s.a)
	s.want("it fails", "aborted, 1.0 100%, 1.1 0%", "lb-a")
	if d := s.document(); !strings.Contains(d.Reason, "5 % errors") {
		t.Errorf("the reason is %q", d.Reason)
	}
}

// Errors of several services come in one order: another one each second would be logged
// each second.
func TestMover_SeveralFail_SameErrorEachTime(t *testing.T) {
	s := newMoverScene(t)
	running := map[string]*Document{}
	for _, service := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		running[service] = s.document()
	}
	s.a.Running = func() map[string]*Document { return running }
	if err := s.a.move(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.verdict = Judgement{Verdict: Fail}
	s.fake.Break(consultest.Close())
	first := s.a.move(t.Context())
	for range 5 {
		if err := s.a.move(t.Context()); err == nil || err.Error() != first.Error() {
			t.Fatalf("the error is\n%v\nand was\n%v", err, first)
		}
	}
}

// One that does not lead asks for the lock each five seconds.
func TestMover_AnotherLeads_AsksEachFiveSeconds(t *testing.T) {
	s := newMoverScene(t)
	s.pass(time.Second, s.a)
	asked := func() (n int) {
		for _, r := range s.fake.Requests() {
			if strings.Contains(r, string(leaders)) {
				n++
			}
		}
		return n
	}
	before := asked()
	s.pass(20*time.Second, s.b)
	if got := asked() - before; got != 4 {
		t.Errorf("it has asked %d times in 20 seconds, want 4", got)
	}
	s.a.resign(t.Context())
	s.pass(askEvery, s.b)
	if !s.b.leads["api"] {
		t.Errorf("it does not lead after %s", askEvery)
	}
}
