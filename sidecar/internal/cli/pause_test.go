package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/deploy"
	"github.com/pointsman/pointsman/sidecar/internal/pause"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// waiting is a wait for load balancers that answer as a test says, by the time since the
// pause.
func waiting(answers map[string]func(since time.Duration) (sidecarapi.Pause, error)) *pauseWait {
	began := time.Now()
	return &pauseWait{
		service: "api", least: 1,
		list: func(context.Context) (all []deploy.Balancer, err error) {
			for _, name := range slices.Sorted(maps.Keys(answers)) {
				all = append(all, deploy.Balancer{Name: name})
			}
			return all, nil
		},
		ask: func(_ context.Context, b deploy.Balancer) (sidecarapi.Pause, error) {
			return answers[b.Name](time.Since(began))
		},
	}
}

func TestPauseWait_EachLoadBalancer_UntilNoServerHasOrGetsARequest(t *testing.T) {
	type answer = func(time.Duration) (sidecarapi.Pause, error)
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(30 * time.Second)
		good := sidecarapi.Pause{Until: until, Applied: true, Attempts: 5}
		after := func(d time.Duration, before func(*sidecarapi.Pause)) answer {
			return func(since time.Duration) (sidecarapi.Pause, error) {
				p := good
				if since < d {
					before(&p)
				}
				return p, nil
			}
		}
		quiet := after(0, nil)
		const never = time.Hour
		for _, c := range []struct {
			name    string
			second  answer
			atLeast time.Duration // that it waits
			fails   string
		}{
			{"both are quiet", quiet, pauseQuiet, ""},
			{"it gets the pause later", after(2*time.Second, func(p *sidecarapi.Pause) { p.Until = time.Time{} }), 2*time.Second + pauseQuiet, ""},
			{"HAProxy gets it later", after(2*time.Second, func(p *sidecarapi.Pause) { p.Applied = false }), 2*time.Second + pauseQuiet, ""},
			{"a server has a request", after(3*time.Second, func(p *sidecarapi.Pause) { p.AtServers = 1 }), 3*time.Second + pauseQuiet, ""},
			{"a request is tried again, each second", func(since time.Duration) (sidecarapi.Pause, error) {
				p := good
				p.Attempts += uint64(min(since/time.Second, 3))
				return p, nil
			}, 3*time.Second + pauseQuiet, ""},
			{"it is not routed there", func(time.Duration) (sidecarapi.Pause, error) { return sidecarapi.Pause{}, deploy.ErrNotRouted }, pauseQuiet, ""},
			{"a request does not end", after(never, func(p *sidecarapi.Pause) { p.AtServers = 2 }), 0, "not paused within 5s: lb1: requests at servers: 2"},
			{"another pause", after(never, func(p *sidecarapi.Pause) { p.Until = until.Add(time.Second) }), 0, "lb1: sidecar has not read this pause yet"},
			{"HAProxy does not take it", after(never, func(p *sidecarapi.Pause) { p.Applied, p.Problem = false, "no map" }), 0, "lb1: HAProxy does not have the pause: no map"},
			{"it does not answer", func(time.Duration) (sidecarapi.Pause, error) { return sidecarapi.Pause{}, errors.New("refused") }, 0, "lb1: refused"},
		} {
			began := time.Now()
			w := waiting(map[string]answer{"lb0": quiet, "lb1": c.second})
			err := w.await(t.Context(), until, 5*time.Second)
			took := time.Since(began)
			switch {
			case c.fails != "":
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%s: got %v, want %q", c.name, err, c.fails)
				}
			case err != nil || took < c.atLeast || took > c.atLeast+time.Second/2:
				t.Errorf("%s: %v after %s, want it after %s", c.name, err, took, c.atLeast)
			}
		}
	})
}

func TestPauseWait_LoadBalancersMissing_Fails(t *testing.T) {
	w := waiting(nil)
	if err := w.check(t.Context()); err == nil || !strings.Contains(err.Error(), "0 load balancers are registered that route the service, want at least 1") {
		t.Errorf("got %v", err)
	}
	w = waiting(map[string]func(time.Duration) (sidecarapi.Pause, error){
		"lb0": func(time.Duration) (sidecarapi.Pause, error) {
			return sidecarapi.Pause{Problem: reconcile.CannotPause}, nil
		},
	})
	if err := w.check(t.Context()); err == nil || err.Error() != "lb0: "+reconcile.CannotPause {
		t.Errorf("a service that cannot be paused: %v", err)
	}
	list := w.list
	w.list = func(context.Context) ([]deploy.Balancer, error) { return nil, errors.New("Consul is away") }
	if err := w.check(t.Context()); err == nil || err.Error() != "lb0: "+reconcile.CannotPause {
		t.Errorf("with those that were listed before: %v", err)
	}
	w.known, w.list = nil, func(ctx context.Context) ([]deploy.Balancer, error) {
		_, _ = list(ctx)
		return nil, errors.New("Consul is away")
	}
	if err := w.check(t.Context()); err == nil || err.Error() != "Consul is away" {
		t.Errorf("with none: %v", err)
	}
}

// A pause that fails leaves what was there before, and says so.
func TestPause_Fails_TheOneBeforeIsThereAgain(t *testing.T) {
	kv, err := consul.NewKV(consul.Options{Address: consultest.NewFake(t).Address()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	store := pause.Store{KV: kv}
	for _, c := range []struct {
		service string
		before  time.Duration // its hold; 0: not paused
		words   string
	}{
		{"free", 0, "the pause is ended"},
		{"held", time.Minute, "still paused until "},
	} {
		if c.before > 0 {
			if _, _, err := store.Change(t.Context(), c.service, pause.Change("ann", "first", c.before, time.Now())); err != nil {
				t.Fatal(err)
			}
		}
		was, is, err := store.Change(t.Context(), c.service, pause.Change("bob", "second", 5*time.Minute, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if got := takeBack(t.Context(), store, was, is, "bob"); !strings.HasPrefix(got, c.words) {
			t.Errorf("%s: %q, want %q", c.service, got, c.words)
		}
		now, _, err := store.Read(t.Context(), c.service)
		if err != nil {
			t.Fatal(err)
		}
		if rest := time.Until(now.Until); c.before == 0 && rest > 0 || c.before > 0 && (rest > c.before || rest < c.before/2 || now.Reason != "first") {
			t.Errorf("%s: %+v", c.service, now)
		}
	}
}

// A pause whose answer Consul has not given, as when a signal ends the command, is ended
// whether it was recorded or not. What Consul gets later of it changes nothing.
func TestPause_AnswerOfConsulIsLost_IsEnded(t *testing.T) {
	for name, isTaken := range map[string]bool{"it was recorded": true, "Consul gets it later": false} {
		t.Run(name, func(t *testing.T) {
			fake := consultest.NewFake(t)
			var late []byte
			var query string
			isFirst := true
			front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut && isFirst {
					isFirst = false
					late, _ = io.ReadAll(r.Body)
					query = r.URL.RequestURI()
					if isTaken {
						r.Body = io.NopCloser(bytes.NewReader(late))
						fake.ServeHTTP(httptest.NewRecorder(), r)
					}
					panic(http.ErrAbortHandler)
				}
				fake.ServeHTTP(rw, r)
			}))
			defer front.Close()
			file := settingsFile(t, "services: [{name: api}]\nconsul: {address: "+front.Listener.Addr().String()+"}\n")
			var out, errs strings.Builder
			code := Run(t.Context(), Env{Args: []string{"pause", "api", "--hold", "30s", "--wait", "0s", "--config", file}, Hostname: "lb0", Stdout: &out, Stderr: &errs})
			if code != ExitFailure || !strings.Contains(errs.String(), "; the pause is ended") {
				t.Errorf("%d %q", code, errs.String())
			}
			if !isTaken {
				fake.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPut, query, bytes.NewReader(late)))
			}
			kv, err := consul.NewKV(consul.Options{Address: fake.Address()})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			if now, _, err := (pause.Store{KV: kv}).Read(t.Context(), "api"); err != nil || now.IsPaused(time.Now()) || now.ModifiedAt.IsZero() {
				t.Errorf("Consul has %+v, %v", now, err)
			}
		})
	}
}

func TestPauseAndResume_WithoutSidecars_SayWhatTheyDid(t *testing.T) {
	file := settingsFile(t, "services: [{name: api}]\nconsul: {address: "+consultest.NewFake(t).Address()+"}\n")
	for _, c := range []struct {
		args, out, errs string
		code            int
	}{
		{"resume api --json", `{"service":"api","ended":false,`, "", ExitOK},
		{"resume api", "api was not paused\n", "", ExitOK},
		{"pause api --hold 10s --wait 0s", "pause of api recorded until ", "", ExitOK},
		{"pause api --hold 20m", "", "--hold: 20m0s, want 1s to 10m0s", ExitUsage},
		{"pause api --wait 40s", "", "--wait 40s: must be 0s or more, and less than --hold 30s", ExitUsage},
		{"pause api --hold 2s", "", "api was not paused: 0 load balancers are registered", ExitFailure},
		{"pause api --reason \x01", "", "--reason:", ExitUsage},
		{"resume api --json", `{"service":"api","ended":true,`, "", ExitOK},
	} {
		var out, errs strings.Builder
		code := Run(t.Context(), Env{Args: append(strings.Fields(c.args), "--config", file), Hostname: "lb0", Stdout: &out, Stderr: &errs})
		if code != c.code || !strings.HasPrefix(out.String(), c.out) || !strings.Contains(errs.String(), c.errs) {
			t.Errorf("%s: %d %q %q, want %d %q %q", c.args, code, out.String(), errs.String(), c.code, c.out, c.errs)
		}
	}
}

// 2 is for arguments and settings, of which nothing was done.
func TestRenderAndPlan_ConsulAway_ExitWith1(t *testing.T) {
	file := settingsFile(t, "services: [{name: api}]\nconsul: {address: '127.0.0.1:1'}\nhaproxy: {config: "+t.TempDir()+"/haproxy.cfg, socket: "+t.TempDir()+"/none.sock}\n")
	for _, command := range []string{"render", "plan"} {
		var out, errs strings.Builder
		code := Run(t.Context(), Env{Args: []string{command, "--config", file}, Hostname: "lb0", Stdout: &out, Stderr: &errs})
		if code != ExitFailure || !strings.Contains(errs.String(), "connection refused") {
			t.Errorf("%s: %d %q, want %d", command, code, errs.String(), ExitFailure)
		}
	}
}
