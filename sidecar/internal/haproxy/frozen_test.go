package haproxy

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// frozenTimeout is that of one exchange in these tests, reloadLimit that of a
// reload.
const (
	frozenTimeout = 300 * time.Millisecond
	reloadLimit   = 2 * time.Second
)

// call is one that the sidecar asks of a HAProxy.
type call struct {
	name string
	do   func(context.Context) error
}

// calls is everything. The reload is the last: it may bring a new worker, which
// no test has frozen.
func calls(c *Client) []call {
	return []call{
		{"Observe", func(ctx context.Context) error { _, err := c.Observe(ctx, []string{"api"}); return err }},
		{"OldWorkers", func(ctx context.Context) error { _, err := c.OldWorkers(ctx); return err }},
		{"Traffic", func(ctx context.Context) error { _, err := c.Traffic(ctx, []string{"api"}); return err }},
		{"Probe", c.Probe},
		{"Maintenance", func(ctx context.Context) error { _, _, err := c.Maintenance(ctx); return err }},
		{"SetMaintenance", func(ctx context.Context) error { return c.SetMaintenance(ctx, true) }},
		{"Apply", func(ctx context.Context) error {
			return errors.Join(c.Apply(ctx, []plan.Step{
				{Kind: plan.SetDrain, Backend: "api", Server: "one"}, {Kind: plan.SetMaint, Backend: "api", Server: "two"},
			})...)
		}},
		{"Reload", func(ctx context.Context) error { return c.Reload(ctx, testMark) }},
	}
}

// A HAProxy that is frozen is neither gone nor well: every call ends within its
// bound and says so, and all is well once it goes on. TestMain finds what a
// call would leave running.
func TestAFrozenHAProxyCostsNoCallMoreThanItsTimeAndIsNotTakenForGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		frozen func(p *haproxytest.Process, worker int) []int
		well   map[string]bool // what can be told all the same
	}{
		{
			name:   "master and worker",
			frozen: func(p *haproxytest.Process, worker int) []int { return []int{p.MasterPID(), worker} },
		},
		{
			name:   "the worker",
			frozen: func(_ *haproxytest.Process, worker int) []int { return []int{worker} },
		},
		{
			name:   "the master",
			frozen: func(p *haproxytest.Process, _ int) []int { return []int{p.MasterPID()} },
			well:   map[string]bool{"Observe": true, "Apply": true, "Maintenance": true, "SetMaintenance": true},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := haproxytest.StartWith(t, marked(testMark), "backend api\n  server one 127.0.0.1:9\n  server two 127.0.0.1:9\n"+
				"backend "+plan.RotationBackend+"\n  server "+plan.RotationServer+" 127.0.0.1:9\n")
			client := newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master(), Timeout: frozenTimeout, ReloadTimeout: reloadLimit})
			worker, err := p.Worker()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Observe(t.Context(), []string{"api"}); err != nil {
				t.Fatal(err)
			}
			pids := c.frozen(p, worker)
			p.Freeze(pids...)
			for _, asked := range calls(client) {
				name, began := asked.name, time.Now()
				err := asked.do(t.Context())
				// A call is a few exchanges, of which the first that fails is the last.
				limit := 4*frozenTimeout + time.Second
				if name == "Reload" {
					limit = reloadLimit + frozenTimeout + time.Second
				}
				if took := time.Since(began); took > limit {
					t.Errorf("%s took %s, want at most %s", name, took, limit)
				}
				if (err == nil) != c.well[name] {
					t.Errorf("%s: got %v", name, err)
				}
				if errors.Is(err, plan.ErrNotRunning) {
					t.Errorf("%s: it is taken for gone: %v", name, err)
				}
			}
			p.Thaw(pids...)
			haproxytest.Until(t, "all is well again", func() bool { return client.Probe(t.Context()) == nil })
			haproxytest.Until(t, "a reload is done", func() bool { return client.Reload(t.Context(), testMark) == nil })
			if err := client.SetMaintenance(t.Context(), true); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// A frozen old worker may have sessions on anything: what leaves is not taken
// for empty.
func TestAFrozenOldWorkerIsTakenForBusy(t *testing.T) {
	t.Parallel()
	front, node := haproxytest.FreeAddr(t).String(), haproxytest.StartNode(t, "n")
	p := haproxytest.Start(t, heldConfig(front, fmt.Sprintf("  server one %s\n", node.Addr())))
	client := newTestClient(t, Options{Runtime: p.Runtime(), Master: p.Master(), Timeout: frozenTimeout})
	old, err := p.Worker()
	if err != nil {
		t.Fatal(err)
	}
	hold(t, front)
	haproxytest.Until(t, "the request is held", func() bool {
		o, err := client.Observe(t.Context(), []string{"api"})
		return err == nil && o.Backends["api"].Servers[0].Sessions == 1
	})
	p.Reload()
	if errs := client.Apply(t.Context(), []plan.Step{{Kind: plan.SetDrain, Backend: "api", Server: "one"}}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	p.Freeze(old)
	o, err := client.Observe(t.Context(), []string{"api"})
	p.Thaw(old)
	if err != nil {
		t.Fatal(err)
	}
	if s := o.Backends["api"].Servers[0]; s.Sessions == 0 {
		t.Errorf("got %+v, want it to be taken for busy", s)
	}
	node.Release()
}
