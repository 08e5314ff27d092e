package metrics_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/metrics"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// bench is a Recorder with its registry, and the outside that it looks at.
type bench struct {
	*metrics.Recorder
	t   *testing.T
	reg *prometheus.Registry

	now      time.Time
	answered map[string]time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{
		t: t, reg: prometheus.NewRegistry(),
		now:      time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		answered: map[string]time.Time{},
	}
	r, err := metrics.New(b.reg, metrics.Options{
		Version: "v1.2.3", Phases: []string{"starting", "up"}, Invariants: []string{"ready_file_current"},
		Health: func(s string) catalog.SourceHealth { return catalog.SourceHealth{Answered: b.answered[s]} },
		Now:    func() time.Time { return b.now },
		Certificates: func() ([]metrics.Certificate, int) {
			return []metrics.Certificate{{Backend: "api", Name: "api.test", NotAfter: time.Unix(1_800_000_000, 0)}}, 1
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Recorder = r
	return b
}

// series returns the values of a metric by its labels, as in kind=add,result=ok.
func (b *bench) series(name string) map[string]float64 {
	b.t.Helper()
	families, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			out[strings.Join(labels, ",")] = value
		}
	}
	return out
}

// above returns the series that are not 0.
func (b *bench) above(name string) map[string]float64 {
	b.t.Helper()
	out := b.series(name)
	for k, v := range out {
		if v == 0 {
			delete(out, k)
		}
	}
	return out
}

func (b *bench) want(name string, got, want map[string]float64) {
	b.t.Helper()
	if diff := cmp.Diff(got, want); diff != "" {
		b.t.Errorf("%s (-got +want):\n%s", name, diff)
	}
}

func TestEveryClosedSeriesStartsAtZero(t *testing.T) {
	b := newBench(t)
	wantReloads := map[string]float64{}
	for _, r := range plan.ReloadReasons {
		wantReloads["reason="+string(r)+",result=ok"] = 0
		wantReloads["reason="+string(r)+",result=failed"] = 0
	}
	b.want("reloads", b.series("pointsman_reloads_total"), wantReloads)

	if listed := strs(plan.Kinds); !slices.Equal(listed, constantsOfPlan(t, "Kind")) {
		t.Errorf("plan.Kinds is %q, and the constants are %q", listed, constantsOfPlan(t, "Kind"))
	}
	wantCommands := map[string]float64{}
	for _, k := range append(slices.Clone(plan.Kinds), "observe", "reload", "read_map", "find_entry", "update_map", "other") {
		wantCommands["kind="+string(k)+",result=ok"] = 0
		wantCommands["kind="+string(k)+",result=failed"] = 0
	}
	b.want("commands", b.series("pointsman_commands_total"), wantCommands)

	wantSteps := map[string]float64{}
	for _, k := range plan.Kinds {
		for _, r := range constantsOfPlan(t, "Reason") {
			wantSteps["kind="+string(k)+",reason="+r] = 0
		}
	}
	b.want("steps", b.series("pointsman_steps_total"), wantSteps)

	b.want("writes", b.series("pointsman_file_writes_total"), map[string]float64{"result=ok": 0, "result=failed": 0})
	for _, name := range []string{"ready", "haproxy_up", "old_workers", "apply_seconds"} {
		b.want(name, b.series("pointsman_"+name), map[string]float64{"": 0})
	}
	b.want("build_info", b.series("pointsman_build_info"), map[string]float64{"version=v1.2.3": 1})
}

// strs returns the texts of constants.
func strs[S ~string](all []S) (out []string) {
	for _, s := range all {
		out = append(out, string(s))
	}
	return out
}

// constantsOfPlan reads plan's constants of a type from its source.
func constantsOfPlan(t *testing.T, typeName string) (values []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "plan", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, is := n.(*ast.ValueSpec)
			if !is {
				return true
			}
			if typ, named := spec.Type.(*ast.Ident); !named || typ.Name != typeName || len(spec.Values) == 0 {
				return true
			}
			if lit, literal := spec.Values[0].(*ast.BasicLit); literal {
				value, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, value)
			}
			return true
		})
	}
	if len(values) == 0 {
		t.Fatalf("no constant of type %s in package plan", typeName)
	}
	return values
}

func TestWhatHappenedIsCounted(t *testing.T) {
	b := newBench(t)
	broken := errors.New("broken")
	b.Update(metrics.State{Services: []metrics.Service{{Name: "api"}}})

	b.Command("add", false)
	b.Command("observe", true)
	b.Command("an unknown kind", false)
	b.want("commands", b.above("pointsman_commands_total"), map[string]float64{
		"kind=add,result=ok": 1, "kind=observe,result=failed": 1, "kind=other,result=ok": 1,
	})

	b.Step("api", plan.Step{Kind: plan.Add, Reason: plan.Registered}, nil)
	b.Step("api", plan.Step{Kind: plan.SetReady, Reason: plan.Drift}, nil)
	b.Step("api", plan.Step{Kind: plan.SetMaint, Reason: plan.Drift}, broken)
	b.want("steps", b.above("pointsman_steps_total"), map[string]float64{
		"kind=add,reason=registered": 1, "kind=ready,reason=drift": 1,
	})
	b.want("drift", b.series("pointsman_drift_corrections_total"), map[string]float64{"service=api": 1})

	b.Reload(plan.ServiceAdded, nil)
	b.Reload(plan.ServiceAdded, broken)
	b.want("reloads", b.above("pointsman_reloads_total"), map[string]float64{
		"reason=service_added,result=ok": 1, "reason=service_added,result=failed": 1,
	})

	b.FileWritten(nil)
	b.FileWritten(broken)
	b.FileWritten(broken)
	b.want("writes", b.above("pointsman_file_writes_total"), map[string]float64{"result=ok": 1, "result=failed": 2})

	b.FilePutBack()
	b.want("file drift", b.above("pointsman_file_drift_corrections_total"), map[string]float64{"": 1})

	b.OldWorkers(2, 1<<20)
	b.want("memory", b.above("pointsman_old_workers_memory_bytes"), map[string]float64{"": 1 << 20})
	b.want("old workers", b.above("pointsman_old_workers"), map[string]float64{"": 2})
}

func TestApplyIsMeasuredFromMillisecondsToAMinute(t *testing.T) {
	b := newBench(t)
	b.Applied("api", 3*time.Millisecond)
	b.Applied("api", 40*time.Second)
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[float64]uint64{}
	for _, f := range families {
		if f.GetName() == "pointsman_apply_seconds" {
			for _, bucket := range f.GetMetric()[0].GetHistogram().GetBucket() {
				got[bucket.GetUpperBound()] = bucket.GetCumulativeCount()
			}
		}
	}
	want := map[float64]uint64{
		.001: 0, .0025: 0, .005: 1, .01: 1, .025: 1, .05: 1, .1: 1, .25: 1, .5: 1,
		1: 1, 2.5: 1, 5: 1, 10: 1, 30: 1, 60: 2,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("buckets (-got +want):\n%s", diff)
	}
}

func TestADrainIsMeasuredFromItsFirstStepToItsLast(t *testing.T) {
	b := newBench(t)
	step := func(server string, kind plan.Kind, reason plan.Reason, after time.Duration, err error) {
		b.now = b.now.Add(after)
		b.Step("api", plan.Step{Kind: kind, Reason: reason, Backend: "api", Server: server}, err)
	}
	step("a", plan.SetDrain, plan.Leaving, 0, errors.New("not taken"))
	step("a", plan.SetDrain, plan.Leaving, time.Second, nil)
	step("a", plan.SetDrain, plan.Leaving, time.Second, nil) // sent again, since it did not show
	step("back", plan.SetDrain, plan.Leaving, 0, nil)
	step("a", plan.SetMaint, plan.Drained, 2*time.Second, nil)
	step("back", plan.SetReady, plan.Healthy, 0, nil) // it has registered again
	step("back", plan.SetMaint, plan.Unhealthy, time.Second, nil)
	step("unseen", plan.SetMaint, plan.Drained, 0, nil) // its drain began before the sidecar did
	step("long", plan.SetDrain, plan.Leaving, 0, nil)
	step("long", plan.SetMaint, plan.DrainExpired, 30*time.Second, nil)
	families, err := b.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "pointsman_drain_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 2 || h.GetSampleSum() != 33 {
			t.Errorf("got %d drains of %v s in all, want 2 of 33 s", h.GetSampleCount(), h.GetSampleSum())
		}
		return
	}
	t.Error("there is no pointsman_drain_seconds")
}

func TestStateIsShown(t *testing.T) {
	b := newBench(t)
	b.Update(metrics.State{Ready: true, Running: true, LeftOut: 3, Behind: 7, BehindSince: b.now.Add(-12 * time.Second), Services: []metrics.Service{
		{Name: "api", Servers: map[string]int{"up": 3}, Rejected: 1, Beyond: 5, Held: 2, Damped: 4, IsPaused: true},
	}})
	b.want("behind", b.series("pointsman_behind_changes"), map[string]float64{"": 7})
	b.want("since", b.series("pointsman_behind_seconds"), map[string]float64{"": 12})
	b.want("beyond", b.series("pointsman_instances_beyond_limit"), map[string]float64{"service=api": 5})
	b.want("ready", b.series("pointsman_ready"), map[string]float64{"": 1})
	b.want("running", b.series("pointsman_haproxy_up"), map[string]float64{"": 1})
	b.want("left out", b.series("pointsman_services_rejected"), map[string]float64{"": 3})
	b.want("servers", b.series("pointsman_servers"), map[string]float64{
		"phase=up,service=api": 3, "phase=starting,service=api": 0,
	})
	b.want("rejected", b.series("pointsman_instances_rejected"), map[string]float64{"service=api": 1})
	b.want("damped", b.series("pointsman_damped_instances"), map[string]float64{"service=api": 4})
	b.want("paused", b.series("pointsman_service_paused"), map[string]float64{"service=api": 1})
	b.want("held", b.series("pointsman_guard_held_servers"), map[string]float64{"service=api": 2})
	b.Update(metrics.State{})
	b.want("ready", b.series("pointsman_ready"), map[string]float64{"": 0})
	b.want("running", b.series("pointsman_haproxy_up"), map[string]float64{"": 0})
	b.want("not behind", b.series("pointsman_behind_seconds"), map[string]float64{"": 0})
}

func TestTheSeriesOfAServiceThatIsGoneGo(t *testing.T) {
	b := newBench(t)
	b.Update(metrics.State{Services: []metrics.Service{{Name: "api"}, {Name: "web"}}})
	b.Update(metrics.State{Services: []metrics.Service{{Name: "web"}}})
	// What is still on its way must not bring it back.
	b.Step("api", plan.Step{Kind: plan.SetReady, Reason: plan.Drift}, nil)
	for _, name := range []string{"servers", "instances_rejected", "instances_beyond_limit", "guard_held_servers", "damped_instances", "service_paused", "drift_corrections_total", "consul_last_contact_seconds"} {
		got := b.series("pointsman_" + name)
		for labels := range got {
			if strings.Contains(labels, "service=api") {
				t.Errorf("pointsman_%s has a series of a service that is gone: %s", name, labels)
			}
		}
		if len(got) == 0 {
			t.Errorf("pointsman_%s has lost the service that is there", name)
		}
	}
}

func TestTheAgeOfWhatConsulSaidGrowsWithTheClock(t *testing.T) {
	b := newBench(t)
	b.answered["api"] = b.now.Add(-time.Second)
	b.Update(metrics.State{Services: []metrics.Service{{Name: "api"}, {Name: "silent"}}})
	b.now = b.now.Add(10 * time.Second)
	b.want("age", b.series("pointsman_consul_last_contact_seconds"), map[string]float64{
		"service=api": 11, "service=silent": 10, // since the start, without an answer
	})
}

func TestCertificates_Scrape_GivesExpiryAndProblems(t *testing.T) {
	b := newBench(t)
	b.want("expiry", b.series("pointsman_certificate_expiry_timestamp_seconds"), map[string]float64{"backend=api,certificate=api.test": 1_800_000_000})
	b.want("problems", b.series("pointsman_certificate_problems"), map[string]float64{"": 1})
}

// options are those of a Recorder that looks at nothing.
func options() metrics.Options {
	return metrics.Options{
		Version: "x", Phases: []string{"up", "starting"}, Invariants: []string{"ready_file_current"},
		Health: func(string) catalog.SourceHealth { return catalog.SourceHealth{} }, Now: time.Now,
		Certificates: func() ([]metrics.Certificate, int) { return nil, 0 },
	}
}

func TestNewRefusesARegistryThatHasTheMetrics(t *testing.T) {
	b := newBench(t)
	o := options()
	if _, err := metrics.New(b.reg, o); !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
		t.Errorf("a second New on one registry: %v, want an AlreadyRegisteredError", err)
	}
	o.Health = nil
	if _, err := metrics.New(prometheus.NewRegistry(), o); err == nil {
		t.Error("New without Health gave no error")
	}
}

func TestScrapesAndEventsAtTheSameTimeAreSafe(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				b.Update(metrics.State{Services: []metrics.Service{{Name: "api"}}})
				b.Step("api", plan.Step{Kind: plan.SetReady, Reason: plan.Drift}, nil)
				if _, err := b.reg.Gather(); err != nil {
					t.Error(err)
				}
				b.Update(metrics.State{})
			}
		})
	}
	wg.Wait()
}

func TestTheNamesFollowPrometheusRules(t *testing.T) {
	b := newBench(t)
	b.Update(metrics.State{Services: []metrics.Service{{Name: "api"}}})
	problems, err := testutil.GatherAndLint(b.reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
