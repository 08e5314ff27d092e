package daemon

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// fakeRotation is an HAProxy with a story: what it has to do depends on how
// long ago it was told to be in maintenance or not.
type fakeRotation struct {
	on     bool
	set    time.Time
	tell   func(since time.Duration) (haproxy.Traffic, error)
	fails  error     // of SetMaintenance and Maintenance
	unseen error     // of Maintenance
	loses  time.Time // when a new worker has what was before; zero: none comes
	other  bool      // it is another operator, in the same worker
	pid    int

	ignores bool // it takes the command, and nothing comes of it
}

func (f *fakeRotation) SetMaintenance(_ context.Context, on bool) error {
	if f.fails == nil && !f.ignores {
		f.on, f.set = on, time.Now()
	}
	return f.fails
}

func (f *fakeRotation) Maintenance(context.Context) (on bool, pid int, err error) {
	f.lose()
	return f.on, f.pid, errors.Join(f.fails, f.unseen)
}

func (f *fakeRotation) lose() {
	if !f.loses.IsZero() && !time.Now().Before(f.loses) {
		f.on, f.loses = !f.on, time.Time{}
		if !f.other {
			f.pid++
		}
	}
}

func (f *fakeRotation) Traffic(_ context.Context, backends []string) (haproxy.Traffic, error) {
	if len(backends) != 1 || backends[0] != "api" {
		return haproxy.Traffic{}, errors.New("not the services' backends")
	}
	f.lose()
	return f.tell(time.Since(f.set))
}

// calm is a load balancer with a request every 10 ms until stop, none of which
// is under way at the moment of a look; and one that lasts until end.
func calm(stop, end time.Duration) func(time.Duration) (haproxy.Traffic, error) {
	return func(since time.Duration) (haproxy.Traffic, error) {
		t := haproxy.Traffic{Begun: 1000 + uint64(min(since, stop)/(10*time.Millisecond))}
		if since < stop && since%(10*time.Millisecond) >= 5*time.Millisecond {
			t.UnderWay++
		}
		if since < end {
			t.UnderWay++
		}
		return t, nil
	}
}

// inFile is a haproxy.cfg that says what it should, from then on.
func (f *fakeRotation) inFile(from time.Duration) func(string) ([]byte, error) {
	return func(string) ([]byte, error) {
		if (time.Since(f.set) >= from) == f.on {
			return []byte("backend pointsman.rotation\n    mode http\n    server lb 127.0.0.1:9 weight 1 disabled\n"), nil
		}
		return []byte("backend pointsman.rotation\n    mode http\n    server lb 127.0.0.1:9 weight 1\nbackend api\n    server a 127.0.0.1:1 disabled\n"), nil
	}
}

func newTestMaintainer(f *fakeRotation, file time.Duration) *MaintenanceSwitch {
	return &MaintenanceSwitch{Name: "lb0", Haproxy: f, Backends: []string{"api"}, Read: f.inFile(file), Quiet: 2 * time.Second}
}

// A worker that a reload starts while the command waits has what its file said
// before the command.
func TestMaintenance_LostToNewWorker_SetAgain(t *testing.T) {
	for _, on := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeRotation{on: !on, tell: calm(0, 0), loses: time.Now().Add(500 * time.Millisecond)}
			m := newTestMaintainer(f, time.Second)
			do := m.Off
			if on {
				do = m.On
			}
			got, err := do(t.Context(), 30*time.Second)
			if err := errors.Join(err, got.Failure()); err != nil || f.on != on {
				t.Errorf("wanted %v, HAProxy has %v: %+v, %v", on, f.on, got, err)
			}
		})
	}
}

// Nothing is waited for, but that the worker which serves has it.
func TestMaintenance_WaitZero_LooksOnceAndSetsItInANewWorker(t *testing.T) {
	for _, on := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeRotation{on: !on, tell: calm(time.Hour, time.Hour), loses: time.Now()}
			m := newTestMaintainer(f, time.Hour)
			do := m.Off
			if on {
				do = m.On
			}
			began := time.Now()
			got, err := do(t.Context(), 0)
			if err := errors.Join(err, got.Failure()); err != nil || f.on != on || time.Since(began) != 0 {
				t.Errorf("wanted %v at once, HAProxy has %v after %s: %+v, %v", on, f.on, time.Since(began), got, err)
			}
		})
	}
	f := &fakeRotation{tell: calm(0, 0), ignores: true}
	if _, err := newTestMaintainer(f, 0).On(t.Context(), 0); err == nil {
		t.Error("HAProxy does not have it, and that is no error")
	}
}

// The last command counts.
func TestMaintenance_AnotherCommandMeanwhile_IsNotUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRotation{tell: calm(time.Hour, time.Hour), loses: time.Now().Add(500 * time.Millisecond), other: true, pid: 7}
		_, err := newTestMaintainer(f, time.Second).On(t.Context(), 10*time.Minute)
		if !errors.Is(err, errOtherCommand) || f.on {
			t.Errorf("got %v, in maintenance: %v", err, f.on)
		}
		if took := time.Since(f.set); took > time.Second {
			t.Errorf("told after %s", took)
		}
	})
}

func TestMaintenanceOnWaitsForTheLastRequestAndForTheFile(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name      string
		stop, end time.Duration // of the traffic
		file      time.Duration
		wait      time.Duration
		want      Maintenance
		failure   string
	}{
		{"clients move on", time.Second, 0, 0, 30 * time.Second, Maintenance{Quiet: true, InFile: &yes, Waited: 3}, ""},
		{"a long request", time.Second, 10 * time.Second, 0, 30 * time.Second, Maintenance{Quiet: true, InFile: &yes, Waited: 12}, ""},
		{"a file that comes late", 0, 0, 20 * time.Second, 30 * time.Second, Maintenance{Quiet: true, InFile: &yes, Waited: 20}, ""},
		{"a request that does not end", time.Second, time.Hour, 0, 30 * time.Second, Maintenance{UnderWay: 1, InFile: &yes, Waited: 30}, "lb0 is in maintenance, but 1 requests are still in flight"},
		{"a client that does not move on", time.Hour, 0, 0, 30 * time.Second, Maintenance{InFile: &yes, Waited: 30}, "lb0 is in maintenance, but still receives requests"},
		{"no sidecar", 0, 0, time.Hour, 30 * time.Second, Maintenance{Quiet: true, InFile: &no, Waited: 30}, "is the sidecar running?"},
		{"no client waits", time.Hour, 0, time.Hour, 0, Maintenance{InFile: &no}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeRotation{tell: calm(c.stop, c.end)}
				got, err := newTestMaintainer(f, c.file).On(t.Context(), c.wait)
				if err != nil {
					t.Fatal(err)
				}
				c.want.LoadBalancer, c.want.Maintenance = "lb0", true
				ignore := cmpopts.IgnoreUnexported(Maintenance{})
				near := cmpopts.EquateApprox(0, 0.15) // it looks ten times a second
				if diff := cmp.Diff(got, c.want, ignore, near); diff != "" {
					t.Errorf("got +want:\n%s", diff)
				}
				err = got.Failure()
				if (err == nil) != (c.failure == "") || err != nil && !strings.Contains(err.Error(), c.failure) {
					t.Errorf("failure: got %v, want %q", err, c.failure)
				}
				if !f.on {
					t.Error("HAProxy is in rotation, want it out, however the wait went")
				}
			})
		})
	}
}

func TestMaintenanceOffWaitsForTheFileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRotation{on: true, tell: calm(time.Hour, time.Hour)}
		got, err := newTestMaintainer(f, 2*time.Second).Off(t.Context(), 30*time.Second)
		if err != nil || got.Failure() != nil || f.on || got.Waited < 1.9 || got.Waited > 2.2 {
			t.Errorf("got %+v, %v, %v, want it in rotation after 2 s", got, err, got.Failure())
		}
	})
}

// While HAProxy loads its file its master does not answer for a moment.
func TestMaintenanceTriesAgainWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ok := calm(0, 0)
		f := &fakeRotation{tell: func(since time.Duration) (haproxy.Traffic, error) {
			if since < 5*time.Second {
				return haproxy.Traffic{}, errors.New("no master")
			}
			return ok(since)
		}}
		m := newTestMaintainer(f, 0)
		if got, err := m.On(t.Context(), 30*time.Second); err != nil || got.Failure() != nil || got.Waited < 7 {
			t.Errorf("got %+v, %v, want it quiet 2 s after HAProxy could be read", got, err)
		}
		if got, err := m.On(t.Context(), 3*time.Second); err != nil || got.Failure() == nil || !strings.Contains(got.Failure().Error(), "no master") {
			t.Errorf("got %+v, %v, want the failure to say why", got, err)
		}
		if _, err := m.On(t.Context(), 0); err == nil {
			t.Error("without a wait: got no error")
		}
	})
}

func TestMaintenanceWithoutTheFileSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRotation{tell: calm(0, 0)}
		m := newTestMaintainer(f, 0)
		m.Read = func(string) ([]byte, error) { return nil, fs.ErrPermission }
		got, err := m.On(t.Context(), 30*time.Second)
		if err != nil || got.InFile != nil || got.Failure() != nil || !strings.Contains(got.String(), "haproxy.cfg cannot be read") {
			t.Errorf("got %s, %v, %v, want no failure, and that the file cannot be read", got, err, got.Failure())
		}
	})
}

func TestMaintenanceThatCannotBeSetIsAnError(t *testing.T) {
	f := &fakeRotation{fails: haproxy.ErrNoRotation, tell: calm(0, 0)}
	m := newTestMaintainer(f, 0)
	for name, do := range map[string]func() error{
		"on":     func() error { _, err := m.On(t.Context(), 0); return err },
		"off":    func() error { _, err := m.Off(t.Context(), 0); return err },
		"status": func() error { _, err := m.Status(t.Context()); return err },
	} {
		if err := do(); !errors.Is(err, haproxy.ErrNoRotation) {
			t.Errorf("%s: got %v, want ErrNoRotation", name, err)
		}
	}
}

// SIGHUP may set haproxy.health.bind, or remove it: what counts is what HAProxy has.
func TestMaintainer_HealthAnswerSetAfterTheStart_Works(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const token = "\napi: {token: secret-of-the-api}\n"
		started := loaded(t, "services: [{name: api, bind: ':80'}]"+token)
		now := loaded(t, "services: [{name: api, bind: ':80'}]\nhaproxy: {health: {bind: ':8404'}}"+token)
		f := &fakeRotation{tell: calm(0, 0)}
		if isKnown, _ := maintainer(started, f)(t.Context(), true); !isKnown || !f.on {
			t.Errorf("HAProxy with a health answer: known %t, on %t, want both", isKnown, f.on)
		}
		f.fails = haproxy.ErrNoRotation
		if isKnown, err := maintainer(now, f)(t.Context(), true); isKnown || err == nil || !strings.Contains(err.Error(), "haproxy.health.bind") {
			t.Errorf("HAProxy without: got %t, %v, want it unknown and the setting named", isKnown, err)
		}
		running := &reconcile.State{HAProxy: reconcile.HAProxyState{Running: true}}
		noPause := ", pause: " + errNoPause.Error()
		without := loaded(t, "services: [{name: api, bind: ':80'}]\nhaproxy: {health: {bind: ':8404'}}")
		for _, c := range []struct {
			started, now config.Config
			state        *reconcile.State
			want         string
		}{
			{started, started, running, "drain, guard, maintenance: " + ErrNoAnswer.Error() + noPause + ", reload, rollout"},
			{started, now, running, "drain, guard, maintenance" + noPause + ", reload, rollout"},
			{started, now, &reconcile.State{}, "drain, guard, maintenance" + noPause + ", reload: " + reconcile.ErrNothingToReload.Error() + ", rollout"},
			{without, now, running, strings.Join([]string{"drain: ", "guard: ", "maintenance: ", "pause: ", "reload: ", "rollout: "}, errNoActions.Error()+", ") + errNoActions.Error()},
		} {
			d := &Daemon{started: c.started}
			d.callable(c.now)
			var got []string
			for _, a := range (*d.actions.Load())(c.state) {
				got = append(got, strings.TrimSuffix(a.Action+": "+a.Refused, ": "))
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("actions: got %q, want %q", text, c.want)
			}
		}
	})
}

// haproxy.cfg may say the same from before. It does not tell that HAProxy does.
func TestMaintenance_HAProxyNotSeen_Fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRotation{tell: calm(0, 0), unseen: errors.New("no worker answers")}
		m := newTestMaintainer(f, 0)
		got, err := m.Off(t.Context(), 10*time.Second)
		if err != nil || got.Failure() == nil || !strings.Contains(got.Failure().Error(), "no worker answers") {
			t.Errorf("got %+v, %v, %v, want a failure that says why", got, err, got.Failure())
		}
		f.tell, f.unseen = func(time.Duration) (haproxy.Traffic, error) {
			return haproxy.Traffic{}, errors.New("no old worker answers")
		}, nil
		if got, err = m.Off(t.Context(), 10*time.Second); err != nil || got.Failure() != nil {
			t.Errorf("only sessions not counted: got %v, %v, want no failure: off does not wait for them", err, got.Failure())
		}
	})
}

func TestMaintenanceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := newTestMaintainer(&fakeRotation{tell: calm(time.Hour, 0)}, 0).On(ctx, time.Hour)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's end", err)
		}
	})
}
