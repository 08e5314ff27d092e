package plan_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// settle runs Compute, the model and its clock until nothing is left to do.
// each is called after every single step, not only after every plan.
func settle(m *model, d plan.Desired, snap catalog.Snapshot, each func(st plan.Step)) error {
	for range 200 {
		p := plan.Compute(d, m.observed(), snap)
		for _, st := range p.Steps {
			if err := m.apply(st); err != nil {
				return err
			}
			if each != nil {
				each(st)
			}
		}
		if p.Reload != plan.NoReload {
			m.load(d.Marker, p.File)
		}
		if p.Empty() && len(p.Waiting) == 0 {
			return nil
		}
		m.pass(1e9)
	}
	p := plan.Compute(d, m.observed(), snap)
	if p.Empty() {
		return nil // the rest waits permanently
	}
	return fmt.Errorf("no end after 200 passes: %+v", p.Steps)
}

func kinds(p plan.Plan) (out []string) {
	for _, s := range p.Steps {
		out = append(out, fmt.Sprintf("%s %s: %s", s.Kind, s.Server, s.Reason))
	}
	return out
}

// genInstances draws what Consul might list: few IDs and addresses, so that
// they meet often.
func genInstances(t *rapid.T, label string, weights ...int) []catalog.Instance {
	weights = append(weights, 1, 1, 10)
	n := rapid.IntRange(0, 6).Draw(t, label+" count")
	seen := map[string]bool{}
	var out []catalog.Instance
	for k := range n {
		id := fmt.Sprintf("api-%d", rapid.IntRange(0, 8).Draw(t, fmt.Sprintf("%s id %d", label, k)))
		if seen[id] {
			continue
		}
		seen[id] = true
		i := instance(id, rapid.IntRange(1, 9).Draw(t, fmt.Sprintf("%s addr %d", label, k)))
		i.Weight = rapid.SampledFrom(weights).Draw(t, fmt.Sprintf("%s weight %d", label, k))
		i.MaxConn = rapid.SampledFrom([]int{0, 0, 5}).Draw(t, fmt.Sprintf("%s maxconn %d", label, k))
		i.Health = rapid.SampledFrom([]catalog.Health{0, 0, 0, catalog.Warning, catalog.Critical, catalog.Maintenance}).Draw(t, fmt.Sprintf("%s health %d", label, k))
		i.Backup = rapid.IntRange(0, 4).Draw(t, fmt.Sprintf("%s backup %d", label, k)) == 0
		if rapid.IntRange(0, 4).Draw(t, fmt.Sprintf("%s leaving %d", label, k)) == 0 {
			leaving(&i)
		}
		out = append(out, i)
	}
	return out
}

// genDrift changes HAProxy behind the sidecar's back.
func genDrift(t *rapid.T, m *model) {
	b := m.o.Backends["api_nodes"]
	for i := range b.Servers {
		s := &b.Servers[i]
		switch rapid.IntRange(0, 9).Draw(t, fmt.Sprintf("drift %d", i)) {
		case 0:
			s.Admin, s.Up = plan.Maint, false
		case 1:
			s.Admin = plan.Drain
		case 2:
			s.Weight = 77
		case 3:
			s.Addr = addr(200 + i)
		case 4:
			s.Checked = false
		case 5:
			s.Sessions = 3
		}
	}
	m.o.Backends["api_nodes"] = b
}

func TestPlanConvergesFromAnyStateAndIsThenEmpty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(rapid.Bool().Draw(t, "dynamic"), ours, plan.FileBackend{Backend: "api_nodes"})
		for k := range rapid.IntRange(1, 4).Draw(t, "rounds") {
			snap := known("api", genInstances(t, fmt.Sprintf("round %d", k))...)
			if err := settle(m, desired(), snap, nil); err != nil {
				t.Fatal(err)
			}
			p := plan.Compute(desired(), m.observed(), snap)
			if !p.Empty() {
				t.Fatalf("settled, but got %v, reload %q", kinds(p), p.Reload)
			}
			for _, i := range snap.Service(backend).Instances {
				if i.Leaving.IsZero() && i.Health <= catalog.Warning && !serves(m, i) && !isAlone(m, p, i) {
					t.Fatalf("%s is not served at %s: %+v", i.ID, i.Addr, m.servers("api_nodes"))
				}
			}
			genDrift(t, m)
		}
	})
}

// isAlone reports whether an instance that became a backup, or is none any
// more, waits because no other would serve while its server is replaced.
func isAlone(m *model, p plan.Plan, i catalog.Instance) bool {
	return m.serving(backend) == 1 && slices.Contains(p.Waiting, plan.Waiting{Backend: backend, Server: i.Server, Instance: i.ID, For: plan.ForReplacement})
}

func serves(m *model, i catalog.Instance) bool {
	return slices.ContainsFunc(m.servers("api_nodes"), func(s plan.Server) bool {
		return s.Addr == i.Addr && s.Backup == i.Backup && s.Admin == plan.Ready && s.Up && s.Weight == i.Weight && s.MaxConn == i.MaxConn
	})
}

// Another program may have reloaded HAProxy since it was read, with a file in which a server
// of that name is elsewhere. Where that can be known (2.6), the step tells.
func TestReady_EveryServer_StepNamesTheAddressItIsReadyFor(t *testing.T) {
	ready := 0
	rapid.Check(t, func(t *rapid.T) {
		// A file of a newer HAProxy, in which servers have the names of instances.
		var file []plan.FileServer
		for n := 1; n <= 4; n++ {
			i := instance(fmt.Sprintf("api-%d", n), n)
			file = append(file, plan.FileServer{Name: i.Server, Addr: i.Addr, Weight: 1, Disabled: true})
		}
		m := newModel(false, ours, plan.FileBackend{Backend: "api_nodes", Servers: file})
		for k := range 2 {
			snap := known("api", genInstances(t, fmt.Sprintf("round %d", k))...)
			err := settle(m, desired(), snap, func(st plan.Step) {
				if st.Kind != plan.SetReady {
					return
				}
				ready++
				for _, s := range m.servers(st.Backend) {
					if s.Name == st.Server && s.Addr != st.Addr {
						t.Errorf("%s is at %s, ready for %s", s.Name, s.Addr, st.Addr)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			genDrift(t, m)
		}
	})
	if ready == 0 {
		t.Error("no server became ready")
	}
}

// The file must say what HAProxy runs once the steps are applied: a worker that
// restarts HAProxy then gets servers that need no mending of traffic.
func TestFileServesWhatHAProxyServes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(rapid.Bool().Draw(t, "dynamic"), ours, plan.FileBackend{Backend: "api_nodes"})
		for k := range rapid.IntRange(1, 3).Draw(t, "rounds") {
			snap := known("api", genInstances(t, fmt.Sprintf("round %d", k))...)
			if err := settle(m, desired(), snap, nil); err != nil {
				t.Fatal(err)
			}
			p := plan.Compute(desired(), m.observed(), snap)
			got, want := routes(p.File[0].Servers), routesOf(m)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("the file routes other than HAProxy (-want +got):\n%s", diff)
			}
		}
	})
}

func routes(f []plan.FileServer) (out []string) {
	for _, s := range f {
		if !s.Disabled && s.Weight > 0 {
			out = append(out, fmt.Sprint(s.Name, s.Addr, s.Weight, s.MaxConn, s.Backup))
		}
	}
	slices.Sort(out)
	return out
}

func routesOf(m *model) (out []string) {
	for _, s := range m.servers("api_nodes") {
		if s.Admin == plan.Ready && s.Weight > 0 {
			out = append(out, fmt.Sprint(s.Name, s.Addr, s.Weight, s.MaxConn, s.Backup))
		}
	}
	slices.Sort(out)
	return out
}

// While healthy instances exist before and after a change, there is no moment,
// not even between two steps of one plan, in which no server serves.
func TestNoStepLeavesNoServerToServe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(rapid.Bool().Draw(t, "dynamic"), ours, plan.FileBackend{Backend: "api_nodes"})
		first := known("api", instance("api-0", 1), instance("api-1", 2))
		if err := settle(m, desired(), first, nil); err != nil {
			t.Fatal(err)
		}
		for k := range rapid.IntRange(1, 4).Draw(t, "rounds") {
			after := append(genInstances(t, fmt.Sprintf("round %d", k), 0), instance("stays", 100+k))
			snap := known("api", after...)
			err := settle(m, desired(), snap, func(st plan.Step) {
				if m.serving("api_nodes") == 0 {
					t.Fatalf("no server serves after %+v: %+v", st, m.servers("api_nodes"))
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
