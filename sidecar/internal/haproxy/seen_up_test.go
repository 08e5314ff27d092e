package haproxy

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// While HAProxy's next check is under way, it tells the status of the last one only: a log
// line of a server that was down had check=L7STS and no code (2.6, seen on a busy machine).
func TestObserve_CheckUnderWay_KeepsWhatTheLastOneGot(t *testing.T) {
	t.Parallel()
	c := &Client{checks: map[string]plan.Check{}}
	full, status := plan.Check{Status: "L7STS", Code: 503, Words: "Service Unavailable"}, plan.Check{Status: "L7STS"}
	other := plan.Check{Status: "L4TOUT"}
	for i, look := range []struct{ sees, want plan.Check }{
		{status, status},
		{full, full},
		{status, full},
		{status, full},
		{other, other},
		{status, status},
		{full, full},
		{plan.Check{}, plan.Check{}}, // it is up
		{status, status},
	} {
		o := plan.Observed{Backends: map[string]plan.Backend{"api": {Servers: []plan.Server{{Name: "one", Check: look.sees}}}}}
		c.completeChecks(o)
		if got := o.Backends["api"].Servers[0].Check; got != look.want {
			t.Errorf("look %d: got %+v, want %+v", i, got, look.want)
		}
		c.completeChecks(plan.Observed{Backends: map[string]plan.Backend{"web": {}}}) // api is not read
	}
	c.completeChecks(plan.Observed{Backends: map[string]plan.Backend{"api": {}}})
	if len(c.checks) != 0 {
		t.Errorf("the checks of a server that has gone are kept: %v", c.checks)
	}
}
