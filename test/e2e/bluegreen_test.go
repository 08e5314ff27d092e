package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// observer asks a load balancer all the time and notes when each version answered first
// and last.
type observer struct {
	mu       sync.Mutex
	versions map[string][2]time.Time // when a request began that it answered: the first and the last
	requests int
	failures []error
}

// observe asks until the test or stop ends it; header may be "".
func (c *controlled) observe(lb *lab.Balancer, header, value string, connections int) (o *observer, stop func()) {
	o = &observer{versions: map[string][2]time.Time{}}
	done := make(chan struct{})
	var asking sync.WaitGroup
	for range connections {
		asking.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for {
				at := time.Now()
				o.note(at, header, value, client, lb.URL("shop"), c)
				select {
				case <-tick.C:
				case <-done:
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { close(done); asking.Wait() })
	c.Cleanup(stop)
	return o, stop
}

func (o *observer) note(at time.Time, header, value string, client *http.Client, url string, c *controlled) {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, url, http.NoBody)
	version := ""
	if err == nil {
		if header != "" {
			req.Header.Set(header, value)
		}
		var resp *http.Response
		if resp, err = client.Do(req); err == nil {
			var body []byte
			if body, err = io.ReadAll(resp.Body); err == nil && resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s: %s", resp.Status, body)
			}
			_ = resp.Body.Close() // it was read
			version = string(body)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.requests++; err != nil {
		o.failures = append(o.failures, err)
		return
	}
	is, isKnown := o.versions[version]
	if !isKnown || at.Before(is[0]) {
		is[0] = at
	}
	if at.After(is[1]) {
		is[1] = at
	}
	o.versions[version] = is
}

// seen returns the versions that have answered since the last call.
func (o *observer) seen() (versions []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for v := range o.versions {
		versions = append(versions, v)
	}
	slices.Sort(versions)
	clear(o.versions)
	return versions
}

// answered tells when requests began that a version answered: the first and the last.
func (o *observer) answered(version string) [2]time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.versions[version]
}

// blueGreen is a deployment under load on two load balancers: ordinary requests, and those
// that ask for the preview.
type blueGreen struct {
	*controlled
	plain, preview []*observer
	stop           []func()
	said           bytes.Buffer
}

func newBlueGreen(t *testing.T) *blueGreen {
	t.Helper()
	b := &blueGreen{controlled: newControlled(t, 2, previewSettings)}
	for _, lb := range b.lbs {
		plain, stopPlain := b.observe(lb, "", "", 4)
		preview, stopPreview := b.observe(lb, "X-Preview", "s3cret", 1)
		b.plain, b.preview, b.stop = append(b.plain, plain), append(b.preview, preview), append(b.stop, stopPlain, stopPreview)
	}
	return b
}

// gets fails the test unless ordinary requests and those of the preview are answered by
// these versions and no other, on each load balancer, for some time.
func (b *blueGreen) gets(when, plain, preview string) {
	b.Helper()
	for n := range b.lbs {
		b.plain[n].seen()
		b.preview[n].seen()
	}
	b.pause(time.Second)
	for n, lb := range b.lbs {
		if got := strings.Join(b.plain[n].seen(), " "); got != plain {
			b.Errorf("%s: ordinary requests to %s are answered by %q, want %s", when, lb.Name, got, plain)
		}
		if got := strings.Join(b.preview[n].seen(), " "); got != preview {
			b.Errorf("%s: preview requests to %s are answered by %q, want %s", when, lb.Name, got, preview)
		}
	}
}

// window measures a switch: from the first request that the new version answers, on any
// load balancer, to the last that the old one does.
func (b *blueGreen) window(what, from, to string, do func()) {
	b.Helper()
	for n := range b.lbs {
		b.plain[n].seen()
	}
	begun := time.Now()
	do()
	b.pause(time.Second)
	var first, last time.Time
	for n, lb := range b.lbs {
		is, was := b.plain[n].answered(to)[0], b.plain[n].answered(from)[1]
		if is.IsZero() || was.IsZero() {
			b.Errorf("%s: %s did not switch from %s to %s", what, lb.Name, from, to)
			return
		}
		b.Logf("%s: %s: first answer of %s %s after the command began, last of %s %s after it", what, lb.Name, to, is.Sub(begun).Round(time.Millisecond), from, was.Sub(begun).Round(time.Millisecond))
		if first.IsZero() || is.Before(first) {
			first = is
		}
		if was.After(last) {
			last = was
		}
	}
	mixed := max(0, last.Sub(first))
	b.Logf("%s: both versions answered for %s, on both load balancers together", what, mixed.Round(time.Millisecond))
	if mixed > 2*time.Second {
		b.Errorf("%s: both versions answered for %s", what, mixed)
	}
}

func (b *blueGreen) operate(args ...string) {
	b.Helper()
	if out, err := b.lb.Operate(b.ctx, append([]string{"rollout"}, args...)...); err != nil {
		b.Fatalf("rollout %v: %v\n%s", args, err, out)
	}
}

// end stops the load: no request may have failed, and nothing was reloaded.
func (b *blueGreen) end() {
	b.Helper()
	for _, stop := range b.stop {
		stop()
	}
	requests := 0
	for _, o := range append(slices.Clone(b.plain), b.preview...) {
		requests += o.requests
		if len(o.failures) > 0 {
			b.Errorf("%d of %d requests failed: %v", len(o.failures), o.requests, o.failures[:min(3, len(o.failures))])
		}
	}
	b.Logf("%d requests", requests)
	for n, lb := range b.lbs {
		if pid, err := lb.WorkerPID(b.ctx); err != nil || pid != b.pid[n] {
			b.Errorf("%s was reloaded", lb.Name)
		}
	}
}

func (b *blueGreen) untilStep(name string) {
	b.Helper()
	b.must(lab.Until(b.ctx, 40*time.Second, "the deployment is at "+name, func() error {
		out, _ := b.lb.Operate(b.ctx, "deploy", "status", "--service", "shop") // it exits with 3 meanwhile
		if !strings.Contains(out, "… "+name) {
			return fmt.Errorf("it shows %s", out)
		}
		return nil
	}))
}

// The new version is previewed, switched to by an operator, taken back by one command,
// switched to again, and the old nodes are stopped after they were kept: no request fails,
// nothing is reloaded, and each request reaches the version that it should.
func TestDeployBlueGreen_PreviewSwitchUndoAndAgain(t *testing.T) {
	t.Parallel()
	b := newBlueGreen(t)
	b.gets("before", "1.0", "1.0")
	args := []string{"--blue-green", "--preview", "1m", "--keep", "1m"}
	cmd := b.command("1.1", args...)
	cmd.Stderr = &b.said
	b.must(cmd.Start())
	b.untilStep("preview")
	b.gets("in the preview", "1.0", "1.1")
	b.window("switch", "1.0", "1.1", func() { b.operate("promote", "shop") })
	b.untilStep("keep")
	b.gets("switched", "1.1", "1.1")
	b.mustRun(map[string]int{"1.0": 2, "1.1": 2})
	b.window("undo", "1.1", "1.0", func() { b.operate("undo", "shop") })
	_ = cmd.Wait() // the code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(b.said.String(), "went back to the old version") {
		t.Errorf("undone: exit code %d, %s", code, b.said.String())
	}
	b.gets("undone", "1.0", "1.1")
	b.mustRun(map[string]int{"1.0": 2, "1.1": 2})

	// Run again, it switches by itself, and stops the old ones.
	if code, out := b.deploy("1.1", "--blue-green", "--keep", "4s"); code != 0 || !strings.Contains(out, "1.1 has all traffic on 2 load balancers") {
		t.Errorf("again: exit code %d", code)
	}
	b.gets("at the end", "1.1", "1.1")
	b.mustRun(map[string]int{"1.1": 2})
	if state, _, shares := b.rollout(); state != "promoted" || len(shares) > 0 {
		t.Errorf("the rollout is %s, %v, want that it has ended", state, shares)
	}
	b.end()
}

// Killed after the switch, the same command goes on; an abort then gives the old version
// all traffic, and the new nodes are stopped.
func TestDeployBlueGreen_KilledThenAborted_OldVersionServes(t *testing.T) {
	t.Parallel()
	b := newBlueGreen(t)
	args := []string{"--blue-green", "--keep", "5m", "--no-lock"} // the lock of one that was killed stays for a while
	cmd := b.command("1.1", args...)
	b.must(cmd.Start())
	b.untilShare(100)
	b.pause(time.Second)
	b.must(cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	b.gets("killed", "1.1", "1.1")
	b.mustRun(map[string]int{"1.0": 2, "1.1": 2})
	cmd = b.command("1.1", args...)
	cmd.Stderr = &b.said
	b.must(cmd.Start())
	b.pause(3 * time.Second)
	b.mustRun(map[string]int{"1.0": 2, "1.1": 2})
	b.operate("abort", "shop", "--reason", "too loud")
	_ = cmd.Wait() // the code is looked at
	if code := cmd.ProcessState.ExitCode(); code != 5 || !strings.Contains(b.said.String(), `"too loud"`) {
		t.Errorf("aborted: exit code %d, %s", code, b.said.String())
	}
	b.gets("aborted", "1.0", "1.0")
	b.mustRun(map[string]int{"1.0": 2})
	b.end()
}
