package reconcile_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/test/proctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is an agent with all that it touches, in a bubble of synctest: its time
// goes on only while everybody waits.
type bench struct {
	t        *testing.T
	catalog  *fakeCatalog
	haproxy  *fakeHAProxy
	file     *fakeFile
	recorder *fakeRecorder
	renderer *fakeRenderer
	drains   *fakeDrains // nil: none
	maps     *fakeMaps   // nil: none
	settings reconcile.Settings
	jitter   func(time.Duration) time.Duration // nil: by chance
	log      *logBuffer

	large, turnSteps int // reconcile.Options.LargeService and TurnSteps

	decided func(plan.Service, plan.Observed, catalog.Service, *plan.Decision)

	agent  *reconcile.Agent
	began  time.Time
	cancel context.CancelFunc
	ended  chan error
}

var first = plan.Marker{Template: "t1", Services: "s1", Settings: "g1"}

func policyOf(name string) plan.Service {
	return plan.Service{
		Name: name, Backend: name + "_nodes", Checked: true, Options: "check", Warning: true,
		Slots: 4, Spare: 2, DrainTimeout: 30 * time.Second, ReplacementTimeout: 30 * time.Second,
		MinServers: 1, MaxLossRatio: 0.5, Window: 30 * time.Second,
	}
}

func newBench(t *testing.T, dynamic bool, services ...string) *bench {
	b := &bench{t: t, catalog: newFakeCatalog(), file: &fakeFile{}, recorder: &fakeRecorder{}, renderer: &fakeRenderer{marker: first}, log: &logBuffer{}}
	b.haproxy = newFakeHAProxy(dynamic, b.file)
	if len(services) == 0 {
		services = []string{"api"}
	}
	b.settings = reconcile.Settings{
		Renderer: b.renderer, ReloadDebounce: 200 * time.Millisecond, ReloadMaxDelay: time.Second,
		ReloadInterval: 10 * time.Second, MaxOldWorkers: 3, Reconcile: 30 * time.Second, FileDelay: 100 * time.Millisecond,
	}
	for _, s := range services {
		b.settings.Services = append(b.settings.Services, policyOf(s))
	}
	return b
}

// serving is a bench on which all is as it should be: HAProxy serves the
// instances from our file, and the agent has just begun.
func serving(t *testing.T, dynamic bool, instances ...catalog.Instance) *bench {
	b := newBench(t, dynamic)
	b.catalog.says("api", instances...)
	b.adoptable()
	b.start()
	b.eventually("ready", time.Second, func() bool { return b.agent.State().Ready })
	return b
}

// adoptable starts HAProxy with the file that a sidecar before would have left.
func (b *bench) adoptable() {
	d := plan.Desired{Marker: b.renderer.marker, Services: b.settings.Services}
	p := plan.Compute(d, plan.Observed{Caps: b.haproxy.caps}, b.catalog.Snapshot())
	content, err := b.renderer.Render(p.File)
	if err != nil {
		b.t.Fatal(err)
	}
	b.file.content = content
	b.haproxy.start()
}

func (b *bench) start() {
	b.t.Helper()
	var err error
	var maps reconcile.Maps
	if b.maps != nil {
		maps = b.maps
	}
	b.agent, err = reconcile.New(reconcile.Options{
		Maps: maps,
		Name: "lb-1", Version: "1.2.3", Catalog: b.catalog, HAProxy: b.haproxy, File: b.file, Drains: b.drainStore(), OldWorkersMemory: b.haproxy.oldWorkersMemory, Settings: b.settings, Recorder: b.recorder, Decided: b.decided, Jitter: b.jitter, LargeService: b.large, TurnSteps: b.turnSteps,
		Logger: hclog.New(&hclog.LoggerOptions{Output: b.log, DisableTime: true}),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.ended, b.began = cancel, make(chan error, 1), time.Now()
	ended, a := b.ended, b.agent
	go func() { ended <- a.Run(ctx) }()
	b.t.Cleanup(b.stop)
}

// stop ends the agent; once is enough.
func (b *bench) stop() {
	if b.cancel == nil {
		return
	}
	b.cancel()
	b.cancel = nil
	select {
	case err := <-b.ended:
		if err != nil {
			b.t.Errorf("Run: got %v, want nil", err)
		}
	case <-time.After(time.Second):
		b.t.Error("Run goes on after its context has ended")
	}
}

// eventually waits, in the bubble's time, until something holds.
func (b *bench) eventually(what string, within time.Duration, holds func() bool) {
	b.t.Helper()
	every := max(time.Millisecond, within/1000)
	for deadline := time.Now().Add(within); ; time.Sleep(every) {
		synctest.Wait()
		if holds() {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %s: %s\nHAProxy %q\nsent %q\nlog:\n%s", within, what, b.haproxy.shows("api_nodes"), b.haproxy.steps(), b.log)
		}
	}
}

// passes lets time go by.
func (b *bench) passes(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// runs waits until HAProxy shows just these servers of api.
func (b *bench) runs(within time.Duration, want ...string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("HAProxy runs %q", want), within, func() bool { return slices.Equal(b.haproxy.shows("api_nodes"), want) })
}

// wantFile compares what the file has enabled of api.
func (b *bench) wantFile(want ...string) {
	b.t.Helper()
	got, _ := b.file.shows("api_nodes")
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("haproxy.cfg (-want +got):\n%s", diff)
	}
}

func (b *bench) wantTold(prefix string, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.recorder.told(prefix)); diff != "" {
		b.t.Errorf("recorded of %q (-want +got):\n%s", prefix, diff)
	}
}

// logBuffer takes log lines from any goroutine.
type logBuffer struct{ proctest.Output }

// String returns the beginning and the end, for people.
func (l *logBuffer) String() string {
	text := l.Output.String()
	const enough = 2000
	if len(text) > enough {
		return text[:enough/2] + "\n…\n" + text[len(text)-enough/2:]
	}
	return text
}

// count is how many lines have all these words.
func (l *logBuffer) count(words ...string) (n int) {
	for line := range strings.Lines(l.Output.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 4000)
}

func instance(id string, n int, change ...func(*catalog.Instance)) catalog.Instance {
	i := catalog.Instance{ID: id, Node: "node", Server: catalog.ServerName(id, ""), Addr: addr(n), Weight: 1, Version: "1.0"}
	for _, c := range change {
		c(&i)
	}
	return i
}

func leaving(i *catalog.Instance)  { i.Leaving = time.Unix(1000, 0) }
func critical(i *catalog.Instance) { i.Health = catalog.Critical }

func inBothModes(t *testing.T, f func(t *testing.T, dynamic bool)) {
	t.Helper()
	for name, dynamic := range map[string]bool{"slots": false, "dynamic": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, dynamic) })
		})
	}
}

func inTime(f func(t *testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

func (b *bench) drainStore() reconcile.DrainStore {
	if b.drains == nil {
		return nil
	}
	return b.drains
}
