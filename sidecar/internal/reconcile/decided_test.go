package reconcile

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// A decision is used again only where plan.Decide would give the same: each change
// of what it is made from has to be noticed.
func TestDecided_AnyInputChanged_DecidesAgain(t *testing.T) {
	observed := func() plan.Observed {
		return plan.Observed{Running: true, PID: 1, Backends: map[string]plan.Backend{"api": {
			Servers: []plan.Server{{ID: 1, Name: "api-1", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Up: true, Weight: 1}},
			Left:    []plan.FileServer{{Name: "api-1", Weight: 1}},
		}}}
	}
	want := catalog.Service{Name: "api", Known: true}
	seen := time.Unix(1, 0)
	change := func(do func(b *plan.Backend)) func(*plan.Observed) {
		return func(o *plan.Observed) {
			b := o.Backends["api"]
			do(&b)
			o.Backends["api"] = b
		}
	}
	for name, c := range map[string]struct {
		observed func(*plan.Observed)
		want     catalog.Service
		seen     time.Time
		isSame   bool
	}{
		"nothing":                 {isSame: true},
		"another backend":         {observed: func(o *plan.Observed) { o.Backends["web"] = plan.Backend{Static: true} }, isSame: true},
		"no such backend":         {observed: func(o *plan.Observed) { delete(o.Backends, "api") }},
		"a server more":           {observed: change(func(b *plan.Backend) { b.Servers = append(b.Servers, plan.Server{ID: 2}) })},
		"a session":               {observed: change(func(b *plan.Backend) { b.Servers[0].Sessions = 1 })},
		"a second":                {observed: change(func(b *plan.Backend) { b.Servers[0].SinceChange = time.Second })},
		"left otherwise":          {observed: change(func(b *plan.Backend) { b.Left[0].Weight = 2 })},
		"refuses servers":         {observed: change(func(b *plan.Backend) { b.Refuses = true })},
		"takes servers":           {observed: change(func(b *plan.Backend) { b.Adds = true })},
		"refuses weights":         {observed: change(func(b *plan.Backend) { b.Static = true })},
		"is not published":        {observed: change(func(b *plan.Backend) { b.Unpublished = true })},
		"the guard remembers":     {observed: func(o *plan.Observed) { o.Guards = map[string]plan.Guard{"api": {}} }},
		"an instance flaps":       {observed: func(o *plan.Observed) { o.Flapping = map[string]map[string]bool{"api": {"api-1": true}} }},
		"an instance is absent":   {observed: func(o *plan.Observed) { o.Absent = map[string]map[string]time.Duration{"api": {"api-1": 1}} }},
		"an operator drains":      {observed: func(o *plan.Observed) { o.Drained = map[string]map[string]int{"api": {"api-1": 1}} }},
		"the guard looks around":  {observed: func(o *plan.Observed) { o.Listed = map[netip.AddrPort]string{} }},
		"Consul has another word": {seen: seen.Add(1)},
		"Consul is not asked yet": {want: catalog.Service{Name: "api"}},
	} {
		t.Run(name, func(t *testing.T) {
			var k decided
			o := observed()
			k.use(plan.Desired{}, o, nil)
			first := plan.Decide(plan.Service{Name: "api", Backend: "api"}, o, want)
			k.keep("api", first, inputsOf("api", o, want, seen))
			now := observed()
			if c.observed != nil {
				c.observed(&now)
			}
			if c.want.Name == "" {
				c.want = want
			}
			if c.seen.IsZero() {
				c.seen = seen
			}
			if got := k.same("api", inputsOf("api", now, c.want, c.seen)) == first; got != c.isSame {
				t.Errorf("used again: %v, want %v", got, c.isSame)
			}
		})
	}
}

// What is added to the observed state has to be compared, too.
func TestDecided_FieldsOfTheInputs_AreThoseCompared(t *testing.T) {
	for _, c := range []struct {
		of   any
		want []string
	}{
		// Running, Caps, PID and Marker stand in decidedFor; Maintenance and Last are for the file only.
		{plan.Observed{}, []string{"Running", "Caps", "PID", "Marker", "Maintenance", "Backends", "Flapping", "Drained", "Last", "Guards", "Listed", "Absent", "Refused", "Ended"}},
		{plan.Backend{}, []string{"Servers", "Left", "Refuses", "Adds", "Static", "Unpublished"}},
	} {
		var got []string
		for f := range reflect.TypeOf(c.of).Fields() {
			got = append(got, f.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("fields of %T: add the new ones to inputsOf, or to plan.Backend.Equal, and here (-want +got):\n%s", c.of, diff)
		}
	}
}

// Services from Consul come and go for as long as a sidecar runs.
func TestAdopt_ServiceIsGone_NothingIsKeptOfIt(t *testing.T) {
	a := &Agent{known: newObservedCache()}
	now := time.Unix(43200, 0)
	for i := range 10 {
		gone := fmt.Sprintf("gone-%d", i)
		for _, backend := range []string{"api", gone} {
			a.known.touch(backend)
			a.known.seen[backend] = now
		}
		a.adopt(Settings{Services: []plan.Service{{Name: "api", Backend: "api"}}})
	}
	k := a.known
	if len(k.touched) != 1 || len(k.seen) != 1 || k.touched["api"] == 0 || !k.seen["api"].Equal(now) {
		t.Errorf("kept are %v and %v", k.touched, k.seen)
	}
}
