package event

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

var begin = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func TestLog_ReaderResumes_GetsTheRestOrHearsWhatItMissed(t *testing.T) {
	l := NewLog(begin)
	start := l.Last()
	if events, missed, _ := l.After(0, 10); len(events) != 0 || missed {
		t.Errorf("an empty log: got %v, missed %v", events, missed)
	}
	_, _, newer := l.After(start, 10)
	for range Capacity + 5 {
		l.Add(begin, Event{Kind: ServerUp})
	}
	select {
	case <-newer:
	default:
		t.Error("a reader that waits is not woken")
	}
	last := start + Capacity + 5
	for name, c := range map[string]struct {
		after       uint64
		most        int
		first, end  uint64 // 0: none
		wasTooLate  bool
		sidecarThen string
	}{
		"from the newest":         {after: last, most: 10},
		"the last three":          {after: last - 3, most: 10, first: last - 2, end: last},
		"at most two of them":     {after: last - 3, most: 2, first: last - 2, end: last - 1},
		"all that are kept":       {after: 0, most: 1, first: start + 6, end: start + 6},
		"just kept":               {after: start + 5, most: 1, first: start + 6, end: start + 6},
		"one that is overwritten": {after: start + 4, most: 1, first: start + 6, end: start + 6, wasTooLate: true},
		"of an earlier sidecar":   {after: start - 9, most: 1, first: start + 6, end: start + 6, wasTooLate: true},
	} {
		events, missed, _ := l.After(c.after, c.most)
		var first, end uint64
		if len(events) > 0 {
			first, end = events[0].Seq, events[len(events)-1].Seq
		}
		if first != c.first || end != c.end || missed != c.wasTooLate || len(events) > 0 && uint64(len(events)) != end-first+1 {
			t.Errorf("%s: got %d to %d, missed %v; want %d to %d, %v", name, first, end, missed, c.first, c.end, c.wasTooLate)
		}
	}
	if later := NewLog(begin.Add(time.Second)); later.Last() <= last {
		t.Errorf("the next sidecar begins at %d, want above %d", later.Last(), last)
	}
}

// next is the recorder behind ours: it gets all of it.
type next struct {
	reconcile.Recorder
	told int
}

func (n *next) Step(string, plan.Step, error)   { n.told++ }
func (n *next) Reload(plan.ReloadReason, error) { n.told++ }
func (n *next) FileWritten(error)               { n.told++ }
func (n *next) State(*reconcile.State)          { n.told++ }

func TestRecorder_WhatTheAgentDoes_IsAnEventEach(t *testing.T) {
	l, n := NewLog(begin), &next{}
	r := NewRecorder(l, n, func() time.Time { return begin })
	step := func(k plan.Kind, change func(*plan.Step)) plan.Step {
		s := plan.Step{Kind: k, Backend: "b", Server: "api-1", Instance: "api-1", Reason: plan.Registered}
		if change != nil {
			change(&s)
		}
		return s
	}
	refused := errors.New("no such server")
	r.Step("api", step(plan.Add, func(s *plan.Step) { s.Addr = netip.MustParseAddrPort("10.0.0.1:80") }), nil)
	r.Step("api", step(plan.SetWeight, func(s *plan.Step) { s.Weight, s.Reason = 5, plan.Reweighted }), nil)
	r.Step("api", step(plan.SetDrain, nil), refused)
	r.Step("api", step(plan.SetDrain, nil), refused)
	r.Step("api", step(plan.SetDrain, nil), nil)
	r.Reload(plan.ServiceAdded, nil)
	r.Reload(plan.ServiceAdded, refused)
	r.FileWritten(nil)
	r.FileWritten(refused)
	asked := func(status reconcile.RequestStatus) *reconcile.State {
		return &reconcile.State{ReloadRequests: []reconcile.ReloadRequest{
			{By: "eve", Status: reconcile.RequestDone}, {By: "ann", Status: status}, {By: "bob", Status: status}, {By: "ann", Status: status},
		}}
	}
	r.State(asked(reconcile.RequestUnderWay))
	r.Reload(plan.Requested, refused)
	r.State(asked(reconcile.RequestFailed))
	r.Reload(plan.ServiceAdded, nil)
	got, _, _ := l.After(0, 100)
	want := []Event{
		{Kind: ServerAdded, Service: "api", Backend: "b", Server: "api-1", Instance: "api-1", Reason: "registered", Detail: "10.0.0.1:80"},
		{Kind: WeightChanged, Service: "api", Backend: "b", Server: "api-1", Instance: "api-1", Reason: "reweighted", Detail: "5"},
		{Kind: StepFailed, Service: "api", Backend: "b", Server: "api-1", Instance: "api-1", Reason: "registered", Detail: "drain", Error: "no such server"},
		{Kind: ServerDraining, Service: "api", Backend: "b", Server: "api-1", Instance: "api-1", Reason: "registered"},
		{Kind: ReloadDone, Reason: "service_added"},
		{Kind: ReloadFailed, Reason: "service_added", Error: "no such server"},
		{Kind: FileFailed, Error: "no such server"},
		{Kind: ReloadFailed, Reason: "requested", Detail: "requested by ann and bob", Error: "no such server"},
		{Kind: ReloadDone, Reason: "service_added"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Event{}, "Seq", "At")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n.told != 13 {
		t.Errorf("the next recorder was told %d times, want 13", n.told)
	}
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func TestBetween_TwoBackendsOfAService_EachIsComparedWithItself(t *testing.T) {
	state := func(phase reconcile.Phase) *reconcile.State {
		up := reconcile.InstanceState{ID: "a", Node: "n", Server: "slot-1", Health: "passing", Phase: reconcile.PhaseUp, Weight: 1}
		replica := up
		replica.Phase = phase
		return &reconcile.State{Ready: true, HAProxy: reconcile.HAProxyState{Running: true, PID: 7}, Services: []reconcile.ServiceState{
			{Name: "pg", Backend: "primary", Known: true, Instances: []reconcile.InstanceState{up}},
			{Name: "pg", Backend: "replica", Known: true, Instances: []reconcile.InstanceState{replica}},
		}}
	}
	if got := between(state(reconcile.PhaseDrained), state(reconcile.PhaseDrained)); len(got) != 0 {
		t.Errorf("nothing has changed: got %+v", got)
	}
	want := []Event{{Kind: ServerDrained, Service: "pg", Backend: "replica", Server: "slot-1", Instance: "a"}}
	if diff := cmp.Diff(want, between(state(reconcile.PhaseUp), state(reconcile.PhaseDrained))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestBetween_TwoStates_WhatChangedAndNothingElse(t *testing.T) {
	up := func(id string) reconcile.InstanceState {
		return reconcile.InstanceState{ID: id, Node: "n", Server: id, Version: "1.0", Health: "passing", Phase: reconcile.PhaseUp, Weight: 1}
	}
	with := func(i reconcile.InstanceState, change func(*reconcile.InstanceState)) reconcile.InstanceState {
		change(&i)
		return i
	}
	unplaced := with(up("a"), func(i *reconcile.InstanceState) { i.Phase = reconcile.PhaseUnknown })
	gone := with(up("a"), func(i *reconcile.InstanceState) {
		i.ID, i.Node, i.Health, i.Phase = "", "", "gone", reconcile.PhaseDraining
	})
	api := func(k Kind, id string, change func(*Event)) Event {
		e := Event{Kind: k, Service: "api", Server: id, Instance: id}
		if change != nil {
			change(&e)
		}
		return e
	}
	list := func(i ...reconcile.InstanceState) []reconcile.InstanceState { return i }
	for name, c := range map[string]struct {
		was, is []reconcile.InstanceState
		change  func(was, is *reconcile.State)
		want    []Event
	}{
		"nothing":          {list(up("a"), up("b")), list(up("a"), up("b")), nil, nil},
		"a new instance":   {list(up("b")), list(unplaced, up("b")), nil, []Event{api(InstanceRegistered, "a", func(e *Event) { e.Detail = "1.0" })}},
		"it takes traffic": {list(unplaced), list(up("a")), nil, []Event{api(ServerUp, "a", nil)}},
		"it takes it in a slot": {
			list(up("b"), unplaced), list(up("b"), with(up("a"), func(i *reconcile.InstanceState) { i.Server = "slot-1" })), nil,
			[]Event{api(ServerUp, "a", func(e *Event) { e.Server = "slot-1" })},
		},
		"its check fails": {
			list(up("a")), list(with(up("a"), func(i *reconcile.InstanceState) { i.Phase, i.Reason = reconcile.PhaseDown, "why" })), nil,
			[]Event{api(ServerDown, "a", func(e *Event) { e.Reason = "why" })},
		},
		"it leaves": {
			list(up("a")), list(with(up("a"), func(i *reconcile.InstanceState) { i.Leaving, i.Phase = true, reconcile.PhaseDrained })), nil,
			[]Event{api(InstanceLeaving, "a", nil), api(ServerDrained, "a", nil)},
		},
		"Consul calls it critical": {
			list(up("a")), list(with(up("a"), func(i *reconcile.InstanceState) { i.Health = "critical" })), nil,
			[]Event{api(HealthChanged, "a", func(e *Event) { e.Detail = "critical" })},
		},
		"Consul has forgotten it":    {list(up("a")), list(gone), nil, []Event{api(InstanceGone, "a", nil)}},
		"its server goes":            {list(gone, up("b")), list(up("b")), nil, nil},
		"the first answer of Consul": {nil, list(up("a")), func(was, _ *reconcile.State) { was.Services[0].Known = false }, nil},
		"HAProxy ends": {
			list(up("a")), list(unplaced), func(_, is *reconcile.State) { is.HAProxy.Running, is.HAProxy.Error = false, "refused" },
			[]Event{{Kind: HAProxyDown, Error: "refused"}},
		},
		"another worker": {nil, nil, func(_, is *reconcile.State) { is.HAProxy.PID = 8 }, []Event{{Kind: WorkerChanged, Detail: "pid 8"}}},
		"Consul is away": {nil, nil, func(_, is *reconcile.State) { is.Consul.Error = "EOF" }, []Event{{Kind: ConsulLost, Error: "EOF"}}},
		"maintenance":    {nil, nil, func(_, is *reconcile.State) { is.HAProxy.Maintenance = true }, []Event{{Kind: MaintenanceOn}}},
		"not ready":      {nil, nil, func(_, is *reconcile.State) { is.Ready, is.NotReady = false, "why" }, []Event{{Kind: NotReady, Error: "why"}}},
		"a hold":         {nil, nil, func(_, is *reconcile.State) { is.Services[0].Guard.Held = []string{"a"} }, []Event{{Kind: GuardHeld, Service: "api", Detail: "1 held"}}},
		"its end":        {nil, nil, func(was, _ *reconcile.State) { was.Services[0].Guard.Held = []string{"a"} }, []Event{{Kind: GuardReleased, Service: "api"}}},
		"a pause": {
			nil, nil, func(_, is *reconcile.State) {
				is.Services[0].Pause = &reconcile.PauseState{Until: noon.Add(time.Minute), Reason: "why", Applied: noon}
			},
			[]Event{{Kind: ServicePaused, Service: "api", Reason: "why", Detail: "until " + noon.Add(time.Minute).Format(time.RFC3339)}},
		},
		"one that HAProxy does not have": {nil, nil, func(_, is *reconcile.State) { is.Services[0].Pause = &reconcile.PauseState{Until: noon} }, nil},
		"the end of a pause": {
			nil, nil, func(was, _ *reconcile.State) {
				was.Services[0].Pause = &reconcile.PauseState{Until: noon, Applied: noon}
			},
			[]Event{{Kind: ServiceResumed, Service: "api"}},
		},
		"a rejected instance": {
			nil, nil, func(_, is *reconcile.State) {
				is.Services[0].Rejected = []reconcile.RejectedState{{ID: "x", Node: "n", Error: "why"}}
			},
			[]Event{{Kind: InstanceRejected, Service: "api", Instance: "x", Error: "why"}},
		},
	} {
		state := func(i []reconcile.InstanceState) *reconcile.State {
			return &reconcile.State{Ready: true, HAProxy: reconcile.HAProxyState{Running: true, PID: 7}, Services: []reconcile.ServiceState{{Name: "api", Known: true, Instances: i}}}
		}
		was, is := state(c.was), state(c.is)
		if c.change != nil {
			c.change(was, is)
		}
		if diff := cmp.Diff(c.want, between(was, is)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// A step without a kind of event would be an event that says nothing.
func TestStepKinds_EachKind_HasAnEvent(t *testing.T) {
	for _, k := range plan.Kinds {
		if stepKinds[k] == "" {
			t.Errorf("stepKinds has no event for the step %q", k)
		}
	}
}

func TestRecorder_SessionsEnded_EventHasTheirNumber(t *testing.T) {
	l := NewLog(begin)
	before := l.Last()
	NewRecorder(l, &next{}, func() time.Time { return begin }).Step("api", plan.Step{Kind: plan.Shutdown, Backend: "api", Server: "api-1", Sessions: 12}, nil)
	events, _, _ := l.After(before, 10)
	if len(events) != 1 || events[0].Kind != SessionsEnded || events[0].Detail != "12 sessions" {
		t.Errorf("got %+v", events)
	}
}

// A change in Consul that took commands is an event with its time; one for which nothing was
// to be done, and what follows a change later, are none.
func TestRecorder_ChangeApplied_OnceWithItsTime(t *testing.T) {
	now, l := begin, NewLog(begin)
	r := NewRecorder(l, &next{}, func() time.Time { return now })
	applied := time.Time{}
	state := func(changed time.Time) {
		after := 0.0
		if !changed.IsZero() {
			applied, after = now, float64(now.Sub(changed).Microseconds())/1000
		}
		r.State(&reconcile.State{Services: []reconcile.ServiceState{
			{Name: "api", Backend: "b", Applied: applied, AppliedAfter: after}, {Name: "shop", Backend: "shop"},
		}})
	}
	passes := func(d time.Duration) time.Time {
		was := now
		now = now.Add(d)
		return was
	}
	step := func() { r.Step("api", plan.Step{Kind: plan.SetDrain, Backend: "b", Server: "s"}, nil) }
	got := func() (details []string) {
		all, _, _ := l.After(0, 100)
		for _, e := range all {
			if e.Kind == ChangeApplied {
				if e.Service != "api" || e.Backend != "b" {
					t.Errorf("got %+v, want one of api", e)
				}
				details = append(details, e.Detail)
			}
		}
		return details
	}
	want := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, got()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	state(time.Time{})
	want("the first answer")
	changed := passes(2 * time.Millisecond)
	step()
	passes(1340 * time.Microsecond)
	state(changed)
	want("a change with a command", "after 3.3 ms")
	r.State(r.last)
	want("the next pass", "after 3.3 ms")
	passes(time.Second)
	step() // such as the end of a drain
	passes(time.Second)
	changed = passes(time.Millisecond)
	state(changed)
	want("a change without a command", "after 3.3 ms")
	changed = passes(time.Second)
	r.Reload(plan.SlotsExhausted, nil)
	passes(234567 * time.Microsecond)
	state(changed)
	want("a change that took a reload", "after 3.3 ms", "after 1235 ms")
	r.State(r.last)
	want("the next pass", "after 3.3 ms", "after 1235 ms")
}
