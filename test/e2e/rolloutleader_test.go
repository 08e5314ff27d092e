package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// rolloutDocument is what Consul has of a rollout.
type rolloutDocument struct {
	State      string
	Step       int
	Shares     map[string]int
	ModifiedBy string `json:"modified_by"`
	History    []struct{ Action, By string }
}

func (w *canaryWorld) document() (d rolloutDocument) {
	w.Helper()
	pair, _, err := w.consul.Client.KV().Get(rolloutKey, nil)
	w.must(err)
	if pair != nil {
		w.must(json.Unmarshal(pair.Value, &d))
	}
	return d
}

// leader waits until a sidecar leads the rollout, and gives it and another one.
func (w *canaryWorld) leader() (leads, other *lab.Balancer) {
	w.Helper()
	w.must(lab.Until(w.ctx, 90*time.Second, "a sidecar leads that runs", func() error {
		pair, _, err := w.consul.Client.KV().Get("pointsman/rollout-leaders/shop", nil)
		if err != nil || pair == nil || pair.Session == "" {
			return fmt.Errorf("the lock is %+v, %w", pair, err)
		}
		var is struct{ Leader string }
		w.must(json.Unmarshal(pair.Value, &is))
		for n, lb := range w.lbs {
			if lb.Name == is.Leader && lb.Sidecar.Running() {
				leads, other = lb, w.lbs[1-n]
				return nil
			}
		}
		return fmt.Errorf("it is %q", is.Leader)
	}))
	return leads, other
}

// The sidecars walk a canary up its steps, and promote it. The one that leads is killed at
// each step, and another goes on from where it stopped; a pause holds it; the shares are
// right all the time, no request fails and nothing is reloaded (issue 17, points 2 and 3).
func TestRollout_LeaderKilledAtEachStep_AnotherGoesOn(t *testing.T) {
	t.Parallel()
	w := newCanaryWorld(t, "    slots: {min: 12}\n")
	w.beside = map[*lab.Balancer]*lab.Hammering{}
	for _, lb := range w.lbs {
		w.beside[lb] = lab.Hammer(w.ctx, lb.URL("shop"), 2)
	}
	if code, out := w.exitOf("rollout", "start", "shop", "--canary", "1.2"); code != 1 || !strings.Contains(out, "no instance of version 1.2 is registered") {
		t.Errorf("start of a version that does not run: %d, %s", code, out)
	}
	w.operate("set", "shop", "1.0=100", "1.1=0")
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	w.operate("start", "shop", "--canary", "1.1", "--steps", "10,50,100", "--interval", "10s", "--analysis=false")
	if code, out := w.exitOf("rollout", "start", "shop", "--canary", "1.1"); code != 1 || !strings.Contains(out, "a rollout of 1.1 is running, by ") {
		t.Errorf("a second start: %d, %s", code, out)
	}
	var moved []string // who goes to each step after the first
	for step, share := range []int{10, 50, 100} {
		w.must(lab.Until(w.ctx, 90*time.Second, fmt.Sprintf("1.1 has %d %%", share), func() error {
			d := w.document()
			if d.Step > step {
				w.Fatalf("it is at step %d already, want %d: %+v", d.Step, step, d)
			}
			if d.Step != step {
				return fmt.Errorf("%+v", d)
			}
			return nil
		}))
		w.applied(map[string]int{"1.0": 100 - share, "1.1": share})
		killed := w.lbs[0]
		if share < 100 {
			var other *lab.Balancer
			killed, other = w.leader()
			moved = append(moved, other.Name)
			if step == 0 { // a pause outlives the leader
				w.operate("pause", "shop")
			}
		}
		w.must(killed.Sidecar.Kill())
		for _, lb := range w.lbs {
			if got := w.measure(lb, 500)["1.1"]; got < float64(share)-1 || got > float64(share)+1 {
				t.Errorf("at step %d, without its leader %s, %s gives %.2f %% to 1.1, want %d", step, killed.Name, lb.Name, got, share)
			}
		}
		if step == 0 {
			if code, out := w.exitOf("rollout", "status", "shop", "--json"); code != 3 || !strings.Contains(out, `"state":"paused"`) {
				t.Errorf("status of a paused rollout: %d, %s", code, out)
			}
			w.operate("resume", "shop")
		}
		if share < 100 { // the other one leads before this one is back
			w.must(lab.Until(w.ctx, 90*time.Second, "another leads", func() error {
				if leads, _ := w.leader(); leads == killed {
					return errors.New("it is the one that was killed")
				}
				return nil
			}))
		}
		w.must(killed.StartSidecar())
		w.must(killed.Ready(w.ctx, 20*time.Second))
	}
	w.applied(map[string]int{"1.0": 0, "1.1": 100})
	w.mustHave(100)
	var by []string
	d := w.document()
	for _, h := range slices.Backward(d.History) { // the newest is the first
		if h.Action == "step" {
			by = append(by, h.By)
		}
	}
	if d.State != "promoted" || fmt.Sprint(by) != fmt.Sprint(moved) {
		t.Errorf("the rollout is %s, its steps were made by %q, want promoted, by %q: %+v", d.State, by, moved, d.History)
	}
	for _, h := range w.beside {
		if requests, failures := h.Stop(); len(failures) > 0 || requests < 100 {
			t.Errorf("%d requests, failed: %v", requests, failures)
		}
	}
}

// gate is Consul for operators' commands, which holds what they write of the rollout until
// a number of them has come to that.
type gate struct {
	*httptest.Server
	mu      sync.Mutex
	waiting []chan struct{}
}

func (w *canaryWorld) newGate(commands int) *gate {
	w.Helper()
	to, err := url.Parse("http://" + w.consul.Address())
	w.must(err)
	g := &gate{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	g.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && r.URL.Path == "/v1/kv/"+rolloutKey {
			g.wait(r, commands)
		}
		proxy.ServeHTTP(rw, r)
	}))
	w.Cleanup(g.Close)
	return g
}

func (g *gate) wait(r *http.Request, commands int) {
	g.mu.Lock()
	passes := make(chan struct{})
	if g.waiting = append(g.waiting, passes); len(g.waiting) == commands {
		for _, c := range g.waiting {
			close(c)
		}
		g.waiting = nil
	}
	g.mu.Unlock()
	select {
	case <-passes:
	case <-r.Context().Done():
	}
}

// Two operators' commands have read the same before either writes: exactly one is done,
// and the other one ends with 8 and says who has changed it, and to what (issue 17,
// point 2).
func TestRollout_TwoOperatorsAtOnce_OneWinsAndOtherSaysWhoAndWhat(t *testing.T) {
	t.Parallel()
	w := newCanaryWorld(t, "    slots: {min: 12}\n")
	g := w.newGate(2)
	for _, round := range []struct {
		first, second    []string
		isFirst, isOther string // what the document is then, as the other one says
	}{
		{[]string{"set", "shop", "1.0=90", "1.1=10"}, []string{"set", "shop", "1.0=80", "1.1=20"}, "paused, 1.0 90%, 1.1 10%", "paused, 1.0 80%, 1.1 20%"},
		{[]string{"start", "shop", "--canary", "1.1", "--stable", "1.0", "--steps", "30,100"}, []string{"start", "shop", "--canary", "1.1", "--stable", "1.0", "--steps", "40,100"}, "running, 1.0 70%, 1.1 30%", "running, 1.0 60%, 1.1 40%"},
		{[]string{"abort", "shop"}, []string{"promote", "shop"}, "aborted, 1.0 100%, 1.1 0%", "promoted, 1.0 0%, 1.1 100%"},
	} {
		var cmds [2]*exec.Cmd
		var said [2]strings.Builder
		for n, args := range [][]string{round.first, round.second} {
			cmds[n] = exec.CommandContext(w.ctx, programs.Sidecar, append(append([]string{"rollout"}, args...),
				"--config", w.lb.Settings(), "--consul-address", strings.TrimPrefix(g.URL, "http://"))...)
			cmds[n].Stdout, cmds[n].Stderr = io.Discard, &said[n]
			w.must(cmds[n].Start())
		}
		codes := map[int]int{} // which command ended with it
		for n, cmd := range cmds {
			_ = cmd.Wait() // the code is looked at
			codes[cmd.ProcessState.ExitCode()] = n
		}
		winner, isOne := codes[0]
		loser, isOther := codes[8]
		if !isOne || !isOther {
			t.Fatalf("%v and %v ended with %v, want 0 and 8: %s %s", round.first, round.second, codes, &said[0], &said[1])
		}
		d := w.document()
		is := []string{round.isFirst, round.isOther}[winner]
		told := said[loser].String()
		for _, want := range []string{"rollout of shop: changed meanwhile by " + d.ModifiedBy + " at ", "to " + is} {
			if d.ModifiedBy == "" || !strings.Contains(told, want) {
				t.Errorf("%v was told %q, want %q", [][]string{round.first, round.second}[loser], told, want)
			}
		}
		if !strings.HasPrefix(is, d.State+", ") {
			t.Errorf("the rollout is %s, want %s", d.State, is)
		}
		w.applied(d.Shares)
	}
	for n, lb := range w.lbs {
		if pid, err := lb.WorkerPID(w.ctx); err != nil || pid != w.pid[n] {
			t.Errorf("%s was reloaded", lb.Name)
		}
	}
}
