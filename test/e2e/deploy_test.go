package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/compat"
	"github.com/pointsman/pointsman/test/lab"
)

func TestADeploymentLosesNoRequestAndTakesNoReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	clients := w.load()
	pid := w.workerPID()

	fresh := w.startNodes("1.1", "new", 3)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, append(lab.NodeIDs(w.nodes...), lab.NodeIDs(fresh...)...)...))
	for _, n := range w.nodes {
		w.must(n.Leave(30 * time.Second))
	}
	w.must(w.lb.Routes(w.ctx, 10*time.Second, service, lab.NodeIDs(fresh...)...))

	reports := w.mustLoseNothing(clients)
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}
	if s := w.state(); s.Reloads.Succeeded+s.Reloads.Failed != 0 {
		t.Errorf("reloads: got %+v, want none", s.Reloads)
	}
	compat.HAProxy(t, "a deployment of three nodes", "no reload, no request lost")
	for _, v := range []string{"1.0", "1.1"} {
		if reports[0].Versions[v] == 0 {
			t.Errorf("no answer of version %s: %v", v, reports[0].Versions)
		}
	}
}

func TestAllNodesStoppedAtOnceAfterTheirReplacementsStartLoseNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	clients := w.load()

	// Nothing here waits until 1.1 is live: the sidecar has to.
	fresh := w.startNodes("1.1", "new", 3)
	for _, n := range w.nodes {
		w.must(n.Terminate())
	}
	for _, n := range w.nodes {
		w.must(n.Wait(30 * time.Second))
	}
	w.must(w.lb.Routes(w.ctx, 10*time.Second, service, lab.NodeIDs(fresh...)...))
	w.mustLoseNothing(clients)
}

// What may be sent again is not lost with the node that had it.
func TestAKilledNodeLosesNoIdempotentRequestAndIsOutWithinASecondOfBeingNoticed(t *testing.T) {
	w := newWorld(t, 3)
	clients := w.load("--idempotent-only")
	w.must(w.nodes[0].Kill())

	noticed := w.noticed(w.nodes[0])
	w.must(w.lb.Routes(w.ctx, time.Second, service, lab.NodeIDs(w.nodes[1:]...)...))
	t.Logf("out %s after it was noticed", time.Since(noticed).Round(time.Millisecond))
	w.must(lab.Until(w.ctx, 10*time.Second, "HAProxy has it in maint", func() error {
		for _, i := range w.state().Instances(service) {
			if i.ID == w.nodes[0].Name && i.Phase != "out" {
				return fmt.Errorf("it is %s", i.Phase)
			}
		}
		return nil
	}))
	w.mustLoseNothing(clients)
}

// noticed waits until Consul has the node critical or HAProxy has it down.
func (w *world) noticed(n *lab.Node) time.Time {
	w.Helper()
	w.must(lab.Until(w.ctx, 20*time.Second, "Consul or HAProxy notices", func() error {
		if err := n.Registered(w.ctx, time.Millisecond, "critical"); err == nil {
			return nil
		}
		for _, i := range w.state().Instances(service) {
			if i.ID == n.Name && i.Phase != "up" {
				return nil
			}
		}
		return errors.New("neither has")
	}))
	return time.Now()
}

func TestASidecarKilledInTheMiddleOfADeploymentFinishesItAfterItsRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	clients := w.load()
	pid := w.workerPID()

	// A long request keeps an old node draining: it begins while there are no
	// others.
	slow := make(chan error, 1)
	go func() { slow <- w.slowRequest(w.ctx, 12*time.Second) }()
	busy := w.busyNode()
	fresh := w.startNodes("1.1", "new", 3)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, append(lab.NodeIDs(w.nodes...), lab.NodeIDs(fresh...)...)...))
	w.must(busy.Terminate())
	w.must(lab.Until(w.ctx, 10*time.Second, "the node drains", func() error {
		for _, i := range w.state().Instances(service) {
			if i.ID == busy.Name && i.Phase == "draining" {
				return nil
			}
		}
		return errors.New("it does not")
	}))
	w.must(w.lb.Sidecar.Kill())
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	if err := <-slow; err != nil {
		t.Errorf("the long request: %v", err)
	}
	w.must(busy.Wait(30 * time.Second))

	rest := append([]*lab.Node{}, fresh...)
	for _, n := range w.nodes {
		if n != busy {
			rest = append(rest, n)
		}
	}
	w.must(w.lb.Routes(w.ctx, 10*time.Second, service, lab.NodeIDs(rest...)...))
	w.must(lab.Until(w.ctx, 10*time.Second, "the leave is finished", func() error {
		for _, i := range w.state().Instances(service) {
			if i.ID == busy.Name || i.ID == "" {
				return fmt.Errorf("HAProxy still has it: %+v", i)
			}
		}
		return nil
	}))
	// What was left to do was maint, and delete where there are dynamic
	// servers: for one server.
	if got, most := w.steps(""), 2.0; got > most {
		text, _ := w.lb.Metrics(w.ctx)
		t.Errorf("the new sidecar took %v steps, want at most %v:\n%s", got, most, nonzero(text, "pointsman_steps_total"))
	}
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}
	w.mustLoseNothing(clients)
}

func nonzero(text, name string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) && !strings.HasSuffix(line, " 0\n") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// slowRequest sends one request that takes its time.
func (w *world) slowRequest(ctx context.Context, d time.Duration) error {
	return w.Get(ctx, fmt.Sprintf("%sslow?ms=%d", w.lb.URL(service), d.Milliseconds()), d+10*time.Second)
}

// busyNode is the old node that has had a request under way for a while.
func (w *world) busyNode() *lab.Node {
	w.Helper()
	var busy *lab.Node
	streak := map[string]int{}
	w.must(lab.Until(w.ctx, 4*time.Second, "a node has the slow request", func() error {
		for _, n := range w.nodes {
			out, err := w.lb.Runtime(w.ctx, "show servers conn api_nodes")
			if err != nil {
				return err
			}
			if used(out, n.Port) > 0 {
				if streak[n.Name]++; streak[n.Name] > 20 {
					busy = n
					return nil
				}
			} else {
				streak[n.Name] = 0
			}
		}
		return errors.New("none has")
	}))
	return busy
}

// used reads used_cur of the server at a port from `show servers conn`.
func used(out string, port int) int {
	var header []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] == "#" {
			header = fields[1:]
			continue
		}
		row := map[string]string{}
		for i := range min(len(fields), len(header)) {
			row[header[i]] = fields[i]
		}
		if row["port"] == fmt.Sprint(port) && row["used_cur"] != "0" {
			return 1
		}
	}
	return 0
}

func TestARestartedSidecarAdoptsWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	clients := w.load()
	pid := w.workerPID()
	before, err := os.ReadFile(w.lb.Config())
	w.must(err)

	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))

	if got := w.steps(""); got != 0 {
		t.Errorf("it took %v steps, want none", got)
	}
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}
	if after, err := os.ReadFile(w.lb.Config()); err != nil || string(after) != string(before) {
		t.Errorf("haproxy.cfg was changed (%v):\n%s", err, after)
	}
	w.mustLoseNothing(clients)
}

func TestARestartedHAProxyServesTheCurrentServersWithoutASidecar(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	fresh := w.startNodes("1.1", "new", 1)
	w.must(w.nodes[0].Leave(20 * time.Second))
	current := []*lab.Node{w.nodes[1], fresh[0]}
	w.must(w.lb.Routes(w.ctx, 10*time.Second, service, lab.NodeIDs(current...)...))
	w.must(lab.Until(w.ctx, 5*time.Second, "the one that left is gone, and the file is current", func() error {
		// The file follows a change 100 ms later: what the change was is to be
		// in it.
		if s := w.state(); !s.File.Current || len(s.Instances(service)) != len(current) {
			return fmt.Errorf("%+v, %+v", s.File, s.Instances(service))
		}
		return nil
	}))

	w.must(w.lb.Sidecar.Kill())
	w.must(w.lb.HAProxy.Kill())
	w.must(w.lb.StartHAProxy(w.ctx))
	seen := map[string]bool{}
	for range 20 {
		name, err := w.Instance(w.ctx, w.lb.URL(service))
		w.must(err)
		seen[name] = true
	}
	for _, n := range current {
		if !seen[n.Name] {
			t.Errorf("%s has not answered; those that did: %v", n.Name, seen)
		}
	}
	if len(seen) != len(current) {
		t.Errorf("got answers of %v, want of %v only", seen, lab.NodeIDs(current...))
	}

	// And with a sidecar again, nothing needs mending.
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 15*time.Second))
	w.must(w.lb.Routes(w.ctx, 10*time.Second, service, lab.NodeIDs(current...)...))
	if got := w.steps(""); got != 0 {
		t.Errorf("the new sidecar took %v steps, want none", got)
	}
}

func TestChangesMadeByHandAreCorrectedCountedAndLogged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, command string }{
		{"a server disabled", "disable server api_nodes/%s"},
		{"a server drained", "set server api_nodes/%s state drain"},
		{"an address changed", "set server api_nodes/%s addr 127.0.0.1 port 9"},
		{"a weight changed", "set server api_nodes/%s weight 77"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 3)
			clients := w.load()
			victim := w.state().Instances(service)[0]
			before := w.drift()
			_, err := w.lb.Runtime(w.ctx, fmt.Sprintf(c.command, victim.Server))
			w.must(err)
			w.must(lab.Until(w.ctx, 10*time.Second, "it is counted", func() error {
				if got := w.drift(); got <= before {
					return fmt.Errorf("counted %v", got)
				}
				return nil
			}))
			w.must(w.lb.Routes(w.ctx, 10*time.Second, service, lab.NodeIDs(w.nodes...)...))
			for _, i := range w.state().Instances(service) {
				if i.ID == victim.ID && (i.Addr != victim.Addr || i.Weight != victim.Weight || i.Admin != "ready") {
					t.Errorf("got %+v, want as before %+v", i, victim)
				}
			}
			if log := w.lb.Sidecar.Tail(100); !strings.Contains(log, "drift corrected") {
				t.Errorf("the log does not tell of it")
			}
			w.mustLoseNothing(clients)
		})
	}
}

func (w *world) drift() float64 {
	w.Helper()
	v, err := w.lb.Metric(w.ctx, `pointsman_drift_corrections_total{service="api"}`)
	w.must(err)
	return v
}

func TestConsulAwayChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	clients := w.load()
	w.must(w.consul.Kill())
	w.logged("Consul query failed")
	w.must(w.lb.Routes(w.ctx, time.Second, service, lab.NodeIDs(w.nodes...)...))

	// It comes back with no memory: the nodes register again.
	w.must(w.consul.Restart(w.ctx))
	for _, n := range w.nodes {
		w.must(n.Registered(w.ctx, 20*time.Second, "passing"))
	}
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	w.mustLoseNothing(clients)
}

func TestAServiceIsAddedByASeamlessReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	clients := w.load()
	web, err := w.StartNode(w.ctx, w.consul, "web", "web0", "1.0")
	w.must(err)
	w.must(w.lb.SetServices(append(w.lb.Services(), lab.Service{Name: "web"})...))
	w.must(w.lb.Reread())
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "web", web.Name))
	got, err := w.Instance(w.ctx, w.lb.URL("web"))
	w.must(err)
	if got != web.Name {
		t.Errorf("web is answered by %q, want %q", got, web.Name)
	}
	if s := w.state(); s.Reloads.Succeeded != 1 || s.Reloads.Failed != 0 {
		t.Errorf("reloads: got %+v, want one", s.Reloads)
	}
	w.mustLoseNothing(clients)
}
