package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// rolloutKey is the document of the service in Consul.
const rolloutKey = "pointsman/rollouts/shop"

// canaryWorld is two load balancers in front of five servers of each of two versions.
type canaryWorld struct {
	*world
	lbs    []*lab.Balancer
	pid    []int // of HAProxy's workers: none is replaced
	beside map[*lab.Balancer]*lab.Hammering
	// failing is at how many requests the servers of 1.1 fail once; 0: never.
	failing, served atomic.Int64
}

func newCanaryWorld(t *testing.T, extra string) *canaryWorld {
	t.Helper()
	w := &canaryWorld{world: bareWorld(t)}
	var ids []string
	for _, version := range []string{"1.0", "1.1"} {
		for n := range 5 {
			ids = append(ids, w.register(version, n))
		}
	}
	for n := range 2 {
		lb, err := w.NewBalancer(fmt.Sprint("lb", n), w.consul, lab.Service{Name: "shop", Extra: extra})
		w.must(err)
		w.must(lb.Start(w.ctx))
		w.lbs = append(w.lbs, lb)
	}
	w.lb = w.lbs[0]
	for _, lb := range w.lbs {
		w.must(lb.Routes(w.ctx, 20*time.Second, "shop", ids...))
		pid, err := lb.WorkerPID(w.ctx)
		w.must(err)
		w.pid = append(w.pid, pid)
	}
	return w
}

// register starts a server that says its version, and gives its ID in Consul.
func (w *canaryWorld) register(version string, n int) string {
	w.Helper()
	node := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if n := w.failing.Load(); n > 0 && version == "1.1" && w.served.Add(1)%n == 0 {
			http.Error(rw, "bad canary", http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(rw, version)
	}))
	w.Cleanup(node.Close)
	id := fmt.Sprintf("shop-%s-%d", version, n)
	w.registerAt(node.Listener.Addr(), "shop", id, map[string]string{"version": version})
	return id
}

type shownRollout struct {
	State  string `json:"state"`
	Shares []struct {
		Version string  `json:"version"`
		Percent int     `json:"percent"`
		Weight  int     `json:"weight"`
		Servers int     `json:"servers"`
		Actual  float64 `json:"actual"`
	} `json:"shares"`
	ModifiedBy string `json:"modified_by"`
	Ignored    string `json:"ignored"`
	Refused    string `json:"refused"`
}

// rollout is what a sidecar shows of it; nil where it shows none.
func (w *canaryWorld) rollout(lb *lab.Balancer) *shownRollout {
	w.Helper()
	var s struct {
		Services []struct {
			Rollout *shownRollout `json:"rollout"`
		} `json:"services"`
	}
	text, err := lb.StateJSON(w.ctx)
	w.must(err)
	w.must(json.Unmarshal(text, &s))
	return s.Services[0].Rollout
}

// applied waits until every load balancer has given the versions their shares.
func (w *canaryWorld) applied(percent map[string]int) {
	w.Helper()
	for _, lb := range w.lbs {
		w.must(lab.Until(w.ctx, 20*time.Second, fmt.Sprint(lb.Name, " has ", percent), func() error {
			r := w.rollout(lb)
			if r == nil || len(r.Shares) != len(percent) {
				return fmt.Errorf("it shows %+v", r)
			}
			for _, s := range r.Shares {
				if s.Percent != percent[s.Version] || math.Abs(s.Actual-float64(s.Percent)) > 1 {
					return fmt.Errorf("it shows %+v", r)
				}
			}
			return nil
		}))
	}
}

// measure sends requests to a load balancer and gives the percentage that each version
// has answered, of these and of those that others sent meanwhile: HAProxy gives all of
// them out in turns.
func (w *canaryWorld) measure(lb *lab.Balancer, requests int) map[string]float64 {
	w.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	got, all := map[string]float64{}, 0.0
	count := func(sign float64) {
		if others := w.beside[lb]; others != nil {
			for _, version := range []string{"1.0", "1.1"} {
				n := sign * float64(others.Answered(version))
				got[version] += n
				all += n
			}
		}
	}
	count(-1)
	for range requests {
		req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, lb.URL("shop"), http.NoBody)
		w.must(err)
		resp, err := client.Do(req)
		w.must(err)
		body, err := io.ReadAll(resp.Body)
		w.must(err)
		w.must(resp.Body.Close())
		if resp.StatusCode != http.StatusOK {
			w.Fatalf("%s: %s", resp.Status, body)
		}
		got[string(body)]++
		all++
	}
	count(1)
	for version := range got {
		got[version] *= 100 / all
	}
	return got
}

// mustHave measures that every load balancer gives the canary its share, within a point,
// without a reload, from the same weights, which are in the file, too.
func (w *canaryWorld) mustHave(canary float64) {
	w.Helper()
	const requests = 2000
	var first map[string]int
	for n, lb := range w.lbs {
		got := w.measure(lb, requests)
		if math.Abs(got["1.1"]-canary) > 1 || math.Abs(got["1.0"]+got["1.1"]-100) > 1e-6 {
			w.Errorf("%s: of %d requests %.2f %% went to 1.1, want %g", lb.Name, requests, got["1.1"], canary)
		}
		w.Logf("%s: of %d requests %.2f %% went to 1.1, wanted %g %%", lb.Name, requests, got["1.1"], canary)
		weights := map[string]int{}
		s, err := lb.State(w.ctx)
		w.must(err)
		for _, i := range s.Instances("shop") {
			weights[i.ID] = i.Weight
		}
		if first == nil {
			first = weights
		}
		if !reflect.DeepEqual(weights, first) {
			w.Errorf("%s has the weights %v, %s has %v", w.lbs[0].Name, first, lb.Name, weights)
		}
		w.must(lab.Until(w.ctx, 10*time.Second, lb.Name+" has the weights in its file", func() error {
			run, err := lb.Servers(w.ctx, "shop")
			if err != nil {
				return err
			}
			filed, err := lb.FileServers("shop")
			if err != nil {
				return err
			}
			in := map[string]int{}
			for _, s := range filed {
				in[s.Name] = s.Weight
			}
			for _, s := range run {
				if s.Addr != "127.0.0.1:9" && in[s.Name] != s.Weight {
					return fmt.Errorf("%s has weight %d, in the file %d", s.Name, s.Weight, in[s.Name])
				}
			}
			return nil
		}))
		if pid, err := lb.WorkerPID(w.ctx); err != nil || pid != w.pid[n] {
			w.Errorf("%s: HAProxy's worker is %d, %v, was %d: it was reloaded", lb.Name, pid, err, w.pid[n])
		}
	}
}

func (w *canaryWorld) operate(args ...string) string {
	w.Helper()
	out, err := w.lb.Operate(w.ctx, append([]string{"rollout"}, args...)...)
	w.must(err)
	return out
}

// Shares are met within a point on every load balancer, as a client measures it, without
// a reload and without a failed request; they outlive the sidecar, an invalid document
// and a Consul that does not answer (issue 17, points 1 and 2).
func TestRollout_Shares_MeasuredByClientWithoutReload(t *testing.T) {
	t.Parallel()
	w := newCanaryWorld(t, "    slots: {min: 12}\n")
	w.beside = map[*lab.Balancer]*lab.Hammering{}
	for _, lb := range w.lbs {
		w.beside[lb] = lab.Hammer(w.ctx, lb.URL("shop"), 4)
	}
	w.mustHave(50)

	if out := w.operate("set", "shop", "1.0=95", "1.1=5"); !strings.Contains(out, "shop  paused: 1.0 95%, 1.1 5%") {
		t.Errorf("set said %q", out)
	}
	w.applied(map[string]int{"1.0": 95, "1.1": 5})
	w.mustHave(5)

	// Another instance of the canary changes nothing of its share.
	w.register("1.1", 5)
	w.must(lab.Until(w.ctx, 20*time.Second, "the new server takes traffic", func() error {
		for _, lb := range w.lbs {
			if r := w.rollout(lb); r == nil || r.Shares[1].Servers != 6 {
				return fmt.Errorf("%s shows %+v", lb.Name, r)
			}
		}
		return nil
	}))
	w.applied(map[string]int{"1.0": 95, "1.1": 5})
	w.mustHave(5)

	// An invalid document is refused, with the reason, and the last one stays.
	_, err := w.consul.Client.KV().Put(&api.KVPair{Key: rolloutKey, Value: []byte(`{"schema":1,"service":"shop","state":"paused","shares":{"1.0":0,"1.1":0},"modified_by":"eve","modified_at":"2026-11-29T00:00:00Z"}`)}, nil)
	w.must(err)
	for _, lb := range w.lbs {
		w.must(lab.Until(w.ctx, 20*time.Second, lb.Name+" refuses the document", func() error {
			if r := w.rollout(lb); r == nil || !strings.Contains(r.Refused, "key pointsman/rollouts/shop: shares: their sum is 0, want 100") {
				return fmt.Errorf("it shows %+v", r)
			}
			return nil
		}))
	}
	w.applied(map[string]int{"1.0": 95, "1.1": 5})
	w.operate("set", "shop", "1.0=95", "1.1=5")

	// The sidecar restarts, and Consul does not answer for a while.
	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 20*time.Second))
	w.must(w.lb.Reread())
	w.applied(map[string]int{"1.0": 95, "1.1": 5})
	w.must(w.consul.Freeze())
	w.mustHave(5)
	w.must(w.consul.Thaw())

	w.operate("set", "shop", "1.0=0", "1.1=100")
	w.applied(map[string]int{"1.0": 0, "1.1": 100})
	w.mustHave(100)
	if out, err := w.lb.Operate(w.ctx, "status", "shop"); err != nil || !strings.Contains(out, "the rollout gives it no share of the traffic") || !strings.Contains(out, "rollout promoted: 1.0 0% (has 0%), 1.1 100% (has 100%)") {
		t.Errorf("status said %s, %v", out, err)
	}
	w.operate("undo", "shop")
	w.applied(map[string]int{"1.0": 95, "1.1": 5})
	w.operate("abort", "shop", "--reason", "errors")
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	w.mustHave(0)
	if code, out := w.exitOf("rollout", "status", "shop"); code != 5 || !strings.Contains(out, "reason: errors") {
		t.Errorf("status of an aborted rollout: %d, %s", code, out)
	}
	w.operate("end", "shop")
	w.applied(map[string]int{})
	w.mustHave(100 * 6.0 / 11)
	if out := w.operate("history", "shop"); strings.Count(out, "shop") != 5 { // the first went with the document that was replaced
		t.Errorf("the history is %s", out)
	}
	for _, h := range w.beside {
		if requests, failures := h.Stop(); len(failures) > 0 || requests < 100 {
			t.Errorf("%d requests, failed: %v", requests, failures)
		}
	}
}

// A static algorithm has no weights at runtime: shares of 0 and 100 work, others are not
// applied, and the state says why.
func TestRollout_StaticBalance_SharesOf0And100Only(t *testing.T) {
	t.Parallel()
	w := newCanaryWorld(t, "    balance: source\n    slots: {min: 12}\n")
	w.operate("set", "shop", "1.0=95", "1.1=5")
	for _, lb := range w.lbs {
		w.must(lab.Until(w.ctx, 20*time.Second, lb.Name+" says that it cannot", func() error {
			if r := w.rollout(lb); r == nil || !strings.Contains(r.Ignored, "balance source has no weights at runtime") {
				return fmt.Errorf("it shows %+v", r)
			}
			return nil
		}))
	}
	if code, out := w.exitOf("check"); code != 0 || !strings.Contains(out, "shop: balance source has no weights at runtime") {
		t.Errorf("check: %d, %s", code, out)
	}
	for _, to := range []int{100, 0, 100} {
		w.operate("set", "shop", fmt.Sprint("1.0=", 100-to), fmt.Sprint("1.1=", to))
		w.applied(map[string]int{"1.0": 100 - to, "1.1": to})
		for n, lb := range w.lbs {
			if got := w.measure(lb, 200); math.Abs(got["1.1"]-float64(to)) > 1e-6 {
				t.Errorf("%s gives %v, want %d %% to 1.1", lb.Name, got, to)
			}
			if pid, err := lb.WorkerPID(w.ctx); err != nil || pid != w.pid[n] {
				t.Errorf("%s was reloaded", lb.Name)
			}
		}
	}
}

// exitOf runs a command and gives its exit code and what it says.
func (w *canaryWorld) exitOf(args ...string) (int, string) {
	w.Helper()
	cmd := exec.CommandContext(w.ctx, programs.Sidecar, append(args, "--config", w.lb.Settings())...)
	out, _ := cmd.CombinedOutput() // the code says it
	return cmd.ProcessState.ExitCode(), string(out)
}

// A canary that fails at one request of ten is aborted by what both HAProxies count, and
// the next try, which is good, is promoted; nothing is reloaded (issue 17, point 3).
func TestRollout_BadCanary_AbortedByCountersAndGoodOnePromoted(t *testing.T) {
	t.Parallel()
	w := newCanaryWorld(t, "    slots: {min: 12}\n")
	w.operate("set", "shop", "1.0=100", "1.1=0")
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	hammer := func() {
		w.beside = map[*lab.Balancer]*lab.Hammering{}
		for _, lb := range w.lbs {
			w.beside[lb] = lab.Hammer(w.ctx, lb.URL("shop"), 4)
		}
	}
	until := func(state string) string {
		var out string
		w.must(lab.Until(w.ctx, 90*time.Second, "the rollout is "+state, func() error {
			if _, out = w.exitOf("rollout", "status", "shop", "--json"); !strings.Contains(out, `"state":"`+state+`"`) {
				return fmt.Errorf("it is %s", out)
			}
			return nil
		}))
		return out
	}
	hammer()
	w.failing.Store(10)
	w.operate("start", "shop", "--canary", "1.1", "--steps", "20,100", "--interval", "6s")
	if out := until("aborted"); !strings.Contains(out, `"reason":"more errors: `) {
		t.Errorf("the reason is another: %s", out)
	}
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	for _, h := range w.beside {
		requests, failures := h.Stop()
		for _, err := range failures {
			if !strings.Contains(err.Error(), "bad canary") {
				t.Errorf("failed by another cause than the canary: %v", err)
			}
		}
		// It had a fifth of the requests, and failed at a tenth of these.
		if len(failures) == 0 || len(failures)*30 > requests {
			t.Errorf("%d of %d requests failed", len(failures), requests)
		}
	}

	w.failing.Store(0)
	hammer()
	w.operate("start", "shop", "--canary", "1.1", "--steps", "20,100", "--interval", "6s")
	until("promoted")
	w.applied(map[string]int{"1.0": 0, "1.1": 100})
	if out := w.operate("history", "shop"); !strings.Contains(out, "0.00 % of ") {
		t.Errorf("the history does not say by what numbers the step passed: %s", out)
	}
	for _, h := range w.beside {
		if requests, failures := h.Stop(); len(failures) > 0 || requests < 100 {
			t.Errorf("%d requests, failed: %v", requests, failures)
		}
	}
	for n, lb := range w.lbs {
		if pid, err := lb.WorkerPID(w.ctx); err != nil || pid != w.pid[n] {
			t.Errorf("%s was reloaded", lb.Name)
		}
	}
}
