package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// pauseWorld is two load balancers in front of servers that note each request.
type pauseWorld struct {
	*world
	lbs []*lab.Balancer

	mu     sync.Mutex
	served []span // at the servers
	now    int    // requests that servers have
	got    []answer
}

// clock is a time of day for messages.
const clock = "15:04:05.000"

// span is when a request was at a server, or with a client.
type span struct{ from, to time.Time }

// answer is what a client got.
type answer struct {
	span
	status     int
	retryAfter string
	err        error
}

// pausesRequests reports whether this HAProxy can: 3.2 and newer.
func pausesRequests(t *testing.T) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), programs.HAProxy, "-v").Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(out))
	var major, minor int
	if _, err := fmt.Sscanf(words[2], "%d.%d", &major, &minor); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return major > 3 || major == 3 && minor >= 2
}

// newPauseWorld returns nil where HAProxy cannot make requests wait, after a check that
// the setting is refused.
func newPauseWorld(t *testing.T, balancers int, pause string) *pauseWorld {
	t.Helper()
	if !pausesRequests(t) {
		wantPauseRefused(t)
		return nil
	}
	w := &pauseWorld{world: bareWorld(t)}
	var ids []string
	for n := range 2 {
		ids = append(ids, w.register(n))
	}
	for n := range balancers {
		lb, err := w.NewBalancer(fmt.Sprint("lb", n), w.consul, lab.Service{Name: "shop", Extra: "    pause: " + pause + "\n"})
		w.must(err)
		w.must(lb.Start(w.ctx))
		w.lbs = append(w.lbs, lb)
	}
	w.lb = w.lbs[0]
	for _, lb := range w.lbs {
		w.must(lb.Routes(w.ctx, 20*time.Second, "shop", ids...))
	}
	w.must(lab.Until(w.ctx, 20*time.Second, "the sidecars are registered, by which pause finds them", func() error {
		found, _, err := w.consul.Client.Health().Service("pointsman-sidecar", "", true, nil)
		if err == nil && len(found) != balancers {
			err = fmt.Errorf("%d are", len(found))
		}
		return err
	}))
	return w
}

// register starts a server, whose answer takes as long as the query says.
func (w *pauseWorld) register(n int) string {
	w.Helper()
	node := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		from := time.Now()
		w.note(func() { w.now++ })
		if ms, err := strconv.Atoi(r.URL.Query().Get("ms")); err == nil {
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
		_, _ = io.WriteString(rw, "ok")
		w.note(func() { w.now--; w.served = append(w.served, span{from, time.Now()}) })
	}))
	w.Cleanup(node.Close)
	id := fmt.Sprint("shop-", n)
	w.registerAt(node.Listener.Addr(), "shop", id, nil)
	return id
}

func (w *pauseWorld) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// request sends one, and notes what came.
func (w *pauseWorld) request(client *http.Client, method, url string) {
	a := answer{span: span{from: time.Now()}}
	req, err := http.NewRequestWithContext(context.WithoutCancel(w.ctx), method, url, http.NoBody)
	if err == nil {
		var resp *http.Response
		if resp, err = client.Do(req); err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			a.status, a.retryAfter = resp.StatusCode, resp.Header.Get("Retry-After")
		}
	}
	a.err, a.to = err, time.Now()
	w.note(func() { w.got = append(w.got, a) })
}

// clients send requests to all load balancers, each one after another, until stop, which
// waits for their last answers.
func (w *pauseWorld) clients(each int) (stop func()) {
	var all sync.WaitGroup
	done := make(chan struct{})
	for _, lb := range w.lbs {
		for n := range each {
			all.Go(func() {
				client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				method := []string{http.MethodGet, http.MethodPost}[n%2]
				for {
					select {
					case <-done:
						return
					case <-time.After(10 * time.Millisecond):
						w.request(client, method, lb.URL("shop")+"?ms=5")
					}
				}
			})
		}
	}
	return sync.OnceFunc(func() { close(done); all.Wait() })
}

// noneBetween fails where a server had a request in this time.
func (w *pauseWorld) noneBetween(from, to time.Time) {
	w.Helper()
	w.note(func() {
		for _, s := range w.served {
			if s.to.After(from) && s.from.Before(to) {
				w.Errorf("a server had a request from %s to %s, while the service was paused from %s to %s", s.from.Format(clock), s.to.Format(clock), from.Format(clock), to.Format(clock))
				return
			}
		}
	})
}

// allAnswered fails where a request failed, and gives how long those took at most that were
// under way at a moment, from that moment on.
func (w *pauseWorld) allAnswered(at time.Time) (requests, under int, longest time.Duration) {
	w.Helper()
	w.note(func() {
		for _, a := range w.got {
			if a.err != nil || a.status != http.StatusOK {
				w.Errorf("a request of %s got %d after %s: %v", a.from.Format(clock), a.status, a.to.Sub(a.from), a.err)
			}
			if a.from.Before(at) && a.to.After(at) {
				under++
				longest = max(longest, a.to.Sub(at))
			}
		}
		requests = len(w.got)
	})
	return requests, under, longest
}

type pausedAnswer struct {
	Service       string    `json:"service"`
	Until         time.Time `json:"until"`
	LoadBalancers []struct {
		LoadBalancer string `json:"load_balancer"`
		Applied      bool   `json:"applied"`
		AtServers    int    `json:"at_servers"`
	} `json:"load_balancers"`
}

func (w *pauseWorld) pause(args ...string) (p pausedAnswer) {
	w.Helper()
	out, err := w.lb.Operate(w.ctx, append([]string{"pause", "shop", "--json"}, args...)...)
	w.must(err)
	w.must(json.Unmarshal([]byte(out), &p))
	return p
}

// isFiled looks for a pause in haproxy.cfg.
func (w *pauseWorld) isFiled() error {
	content, err := os.ReadFile(w.lb.Config())
	if err == nil && !strings.Contains(string(content), "\n#pause {") {
		err = errors.New("haproxy.cfg has no pause")
	}
	return err
}

// While a service is paused on all load balancers, no request of many clients reaches a
// server, none fails, and all are answered soon after the end (issue 17, point 8).
func TestPause_UnderLoad_RequestsWaitAndNoneFails(t *testing.T) {
	t.Parallel()
	w := newPauseWorld(t, 2, "{max: 20s}")
	if w == nil {
		return
	}
	pids := []int{}
	for _, lb := range w.lbs {
		pid, err := lb.WorkerPID(w.ctx)
		w.must(err)
		pids = append(pids, pid)
	}
	stop := w.clients(8)
	defer stop()
	time.Sleep(time.Second)
	slow := time.Now()
	go w.request(http.DefaultClient, http.MethodPost, w.lbs[1].URL("shop")+"?ms=2500")
	time.Sleep(200 * time.Millisecond)

	p := w.pause("--hold", "20s", "--wait", "15s", "--reason", "migration")
	paused := time.Now()
	if len(p.LoadBalancers) != 2 || !p.LoadBalancers[0].Applied || !p.LoadBalancers[1].Applied || time.Until(p.Until) > 20*time.Second {
		t.Errorf("pause said %+v", p)
	}
	if took := paused.Sub(slow); took < 2500*time.Millisecond {
		t.Errorf("it returned %s after the beginning of a request that takes 2.5s", took)
	}
	w.note(func() {
		if w.now > 0 {
			t.Errorf("servers have %d requests", w.now)
		}
	})
	time.Sleep(3 * time.Second)
	for _, lb := range w.lbs {
		out, _ := lb.Operate(w.ctx, "status") // its exit code tells of other things
		if !strings.Contains(out, "paused until ") {
			t.Errorf("%s: status does not say that the service is paused:\n%s", lb.Name, out)
		}
	}
	if out, err := w.lb.Operate(w.ctx, "pause"); err != nil || !strings.Contains(out, "migration") {
		t.Errorf("the list of pauses is %q, %v", out, err)
	}
	resumed := time.Now()
	out, err := w.lb.Operate(w.ctx, "resume", "shop")
	w.must(err)
	if !strings.Contains(out, "shop resumed\n") {
		t.Errorf("resume said %q", out)
	}
	told := time.Now()
	time.Sleep(2 * time.Second)
	stop()

	w.noneBetween(paused, resumed)
	requests, under, longest := w.allAnswered(told)
	if under < 10 || longest > time.Second {
		t.Errorf("%d requests waited at the end of the pause, and were answered within %s; want at least 10 within 1s", under, longest)
	}
	t.Logf("%d requests, %d of them waited at the end of the pause and were answered within %s of it", requests, under, longest)
	for n, lb := range w.lbs {
		if pid, err := lb.WorkerPID(w.ctx); err != nil || pid != pids[n] {
			t.Errorf("%s: the worker is %d, %v, was %d: HAProxy was reloaded", lb.Name, pid, err, pids[n])
		}
	}
}

// The deadline holds without the sidecar, and a sidecar that starts while Consul does not
// answer keeps the pause.
func TestPause_SidecarKilledAndConsulAway_RequestsGoOnAtTheDeadline(t *testing.T) {
	t.Parallel()
	w := newPauseWorld(t, 1, "{max: 20s}")
	if w == nil {
		return
	}
	stop := w.clients(4)
	defer stop()
	time.Sleep(500 * time.Millisecond)
	p := w.pause("--hold", "9s", "--wait", "8s")
	paused := time.Now()
	w.must(lab.Until(w.ctx, 5*time.Second, "the pause is in the file", w.isFiled))
	w.must(w.lb.Sidecar.Kill())
	w.must(w.consul.Freeze())
	w.must(w.lb.StartSidecar())
	time.Sleep(time.Until(p.Until) - 2*time.Second)
	w.must(w.lb.Sidecar.Kill())
	time.Sleep(time.Until(p.Until) + 2*time.Second)
	stop()
	w.noneBetween(paused, p.Until.Add(-50*time.Millisecond)) // clocks of two programs
	if _, under, longest := w.allAnswered(p.Until); under < 2 || longest > time.Second {
		t.Errorf("%d requests waited at the deadline, and were answered within %s of it; want at least 2 within 1s", under, longest)
	}
	w.must(w.consul.Thaw())
}

// More requests than may wait get 503 at once, which says when to come again.
func TestPause_TooManyRequests_503WithRetryAfter(t *testing.T) {
	t.Parallel()
	w := newPauseWorld(t, 1, "{max: 20s, max_requests: 5}")
	if w == nil {
		return
	}
	w.pause("--hold", "15s")
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() { w.request(&http.Client{Transport: &http.Transport{}}, http.MethodGet, w.lb.URL("shop")) })
	}
	w.must(lab.Until(w.ctx, 5*time.Second, "7 are refused", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.got) != 7 {
			return fmt.Errorf("%d have an answer", len(w.got))
		}
		return nil
	}))
	_, err := w.lb.Operate(w.ctx, "resume", "shop")
	w.must(err)
	all.Wait()
	count := map[int]int{}
	for _, a := range w.got {
		count[a.status]++
		if after, err := strconv.Atoi(a.retryAfter); a.status == http.StatusServiceUnavailable && (err != nil || after < 10 || after > 15) {
			t.Errorf("Retry-After is %q, want the seconds that are left of 15", a.retryAfter)
		}
	}
	if count[http.StatusOK] != 5 || count[http.StatusServiceUnavailable] != 7 {
		t.Errorf("statuses %v, want 5 times 200 and 7 times 503", count)
	}
}

// A request that waits in a worker that a reload has made an old one goes on, too, and the
// new worker has the pause from its beginning.
func TestPause_ReloadMeanwhile_RequestsOfBothWorkersWaitAndGoOn(t *testing.T) {
	t.Parallel()
	w := newPauseWorld(t, 1, "{max: 60s}")
	if w == nil {
		return
	}
	stop := w.clients(4)
	defer stop()
	time.Sleep(500 * time.Millisecond)
	w.pause("--hold", "50s")
	paused := time.Now()
	pid, err := w.lb.WorkerPID(w.ctx)
	w.must(err)
	w.must(w.lb.SetServices(append(slices.Clone(w.lb.Services()), lab.Service{Name: "other"})...))
	w.must(w.lb.Reread())
	w.reloaded(20*time.Second, 1)
	if now, err := w.lb.WorkerPID(w.ctx); err != nil || now == pid {
		t.Fatalf("the worker is %d, %v, was %d: want another", now, err, pid)
	}
	go w.request(&http.Client{Transport: &http.Transport{}}, http.MethodGet, w.lb.URL("shop"))
	time.Sleep(2 * time.Second)
	resumed := time.Now()
	_, err = w.lb.Operate(w.ctx, "resume", "shop")
	w.must(err)
	told := time.Now()
	time.Sleep(3 * time.Second)
	stop()
	w.noneBetween(paused, resumed)
	if _, under, longest := w.allAnswered(told); under < 5 || longest > 2*time.Second {
		t.Errorf("%d requests waited at the end of the pause, and were answered within %s; want at least 5 within 2s", under, longest)
	}
}

// A pause that does not come to pass everywhere is ended.
func TestPause_RequestDoesNotEnd_FailsAndIsEnded(t *testing.T) {
	t.Parallel()
	w := newPauseWorld(t, 1, "{max: 20s}")
	if w == nil {
		return
	}
	go w.request(http.DefaultClient, http.MethodGet, w.lb.URL("shop")+"?ms=6000")
	time.Sleep(200 * time.Millisecond)
	out, err := w.lb.Operate(w.ctx, "pause", "shop", "--hold", "15s", "--wait", "2s")
	if err == nil || !strings.Contains(out, "lb0: requests at servers: 1") || !strings.Contains(out, "the pause is ended") {
		t.Errorf("pause said %q, %v", out, err)
	}
	began := time.Now()
	w.request(&http.Client{Timeout: 10 * time.Second}, http.MethodGet, w.lb.URL("shop"))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a request took %s after the pause had ended", took)
	}
	w.allAnswered(began)

	// One that is over goes, also from the file.
	w.pause("--hold", "2s", "--wait", "0s")
	w.must(lab.Until(w.ctx, 2*time.Second, "the pause is in the file", w.isFiled))
	w.must(lab.Until(w.ctx, 10*time.Second, "it has gone", func() error {
		if w.isFiled() == nil {
			return errors.New("it is still there")
		}
		return nil
	}))
}

// A signal ends the command and its pause while it waits. Where Consul cannot take that, it
// says until when requests may wait, and a second signal ends it at once.
func TestPause_SignalWhileItWaits_PauseIsEnded(t *testing.T) {
	t.Parallel()
	w := newPauseWorld(t, 1, "{max: 20s}")
	if w == nil {
		return
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		w.request(http.DefaultClient, http.MethodGet, w.lb.URL("shop")+"?ms=20000") // so that it waits
	}()
	// start runs the command until the service is paused, and sends a request that waits.
	start := func(hold string) (cmd *exec.Cmd, said *bytes.Buffer, answered chan struct{}) {
		w.Helper()
		cmd, said, answered = exec.CommandContext(w.ctx, programs.Sidecar, "pause", "shop", "--hold", hold, "--wait", "8s", "--config", w.lb.Settings()), &bytes.Buffer{}, make(chan struct{})
		cmd.Stdout, cmd.Stderr = said, said
		w.must(cmd.Start())
		w.must(lab.Until(w.ctx, 10*time.Second, "the service is paused", func() error {
			out, err := w.lb.Operate(w.ctx, "pause")
			if err == nil && !strings.HasPrefix(out, "PAUSED") {
				err = errors.New(out)
			}
			return err
		}))
		go func() {
			defer close(answered)
			w.request(&http.Client{Timeout: 30 * time.Second}, http.MethodGet, w.lb.URL("shop"))
		}()
		time.Sleep(500 * time.Millisecond)
		return cmd, said, answered
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, said, answered := start("20s")
		w.must(cmd.Process.Signal(s))
		at := time.Now()
		_ = cmd.Wait() // the code is looked at
		if code := cmd.ProcessState.ExitCode(); code != 128+int(s) || !strings.Contains(said.String(), "; the pause is ended") {
			t.Errorf("%s: %d, %q", s, code, said)
		}
		<-answered
		if took := time.Since(at); took > 3*time.Second {
			t.Errorf("%s: a request that waited was answered after %s", s, took)
		}
	}

	cmd, said, answered := start("17s")
	w.must(w.consul.Freeze())
	w.must(lab.Until(w.ctx, 5*time.Second, "Consul is frozen", func() error {
		ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := w.consul.Client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx)); err == nil {
			return errors.New("it answers")
		}
		return nil
	}))
	w.must(cmd.Process.Signal(syscall.SIGTERM))
	time.Sleep(time.Second)
	w.must(cmd.Process.Signal(syscall.SIGINT))
	at := time.Now()
	_ = cmd.Wait() // the code is looked at
	if code, took := cmd.ProcessState.ExitCode(), time.Since(at); code != 130 || took > time.Second {
		t.Errorf("a second signal: %d after %s, %q", code, took, said)
	}
	select {
	case <-answered:
		t.Error("the service is not paused any more, and no program has ended that")
	default:
	}
	<-answered // at the deadline
	w.must(w.consul.Thaw())
	<-held
	w.allAnswered(time.Now())
}

// wantPauseRefused checks that the sidecar does not start with pause.max: HAProxy before 3.2 has
// no rule that makes a request wait.
func wantPauseRefused(t *testing.T) {
	t.Helper()
	w := bareWorld(t)
	lb, err := w.NewBalancer("lb0", w.consul, lab.Service{Name: "shop", Extra: "    pause: {max: 20s}\n"})
	w.must(err)
	w.must(lb.StartSidecar())
	if err := lb.Sidecar.Wait(10 * time.Second); err == nil || lb.Sidecar.ExitCode() != 2 {
		t.Errorf("the sidecar ended with %d, %v, want 2", lb.Sidecar.ExitCode(), err)
	}
	if said := lb.Sidecar.Tail(5); !strings.Contains(said, "pause.max of the service shop: needs HAProxy 3.2 or newer") {
		t.Errorf("it said %q", said)
	}
}

// The rollout of a paused service does not step, and goes on afterwards.
func TestPause_RolloutUnderWay_DoesNotStep(t *testing.T) {
	t.Parallel()
	if !pausesRequests(t) {
		wantPauseRefused(t)
		return
	}
	w := newCanaryWorld(t, "    slots: {min: 12}\n    pause: {max: 30s}\n")
	w.operate("set", "shop", "1.0=100", "1.1=0")
	w.applied(map[string]int{"1.0": 100, "1.1": 0})
	_, err := w.lb.Operate(w.ctx, "pause", "shop", "--hold", "30s")
	w.must(err)
	w.operate("start", "shop", "--canary", "1.1", "--steps", "20,100", "--interval", "1s", "--analysis=false")
	time.Sleep(6 * time.Second) // a leader steps within 2 s
	if out := w.operate("history", "shop"); strings.Contains(out, " step ") {
		t.Errorf("it has stepped while the service was paused:\n%s", out)
	}
	_, err = w.lb.Operate(w.ctx, "resume", "shop")
	w.must(err)
	w.must(lab.Until(w.ctx, 20*time.Second, "the rollout goes on", func() error {
		if out := w.operate("history", "shop"); !strings.Contains(out, " promoted ") {
			return fmt.Errorf("the history is\n%s", out)
		}
		return nil
	}))
}
