package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// An operator's drain outlives the sidecar, under load, and ends with ready.
func TestOperatorDrain_SidecarRestarts_LosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	clients := w.load()
	server := lab.NodeIDs(w.nodes[0])[0]
	others := lab.NodeIDs(w.nodes[1:]...)

	// Without a wait it returns once HAProxy shows the drain, here that of a busy server.
	busy := lab.NodeIDs(w.nodes[1])[0]
	out, err := w.lb.Operate(w.ctx, "drain", "--wait", "0s", busy)
	w.must(err)
	if !strings.Contains(out, "is kept in drain; api_nodes: drain") {
		t.Errorf("drain --wait 0s said %q, want it to show", out)
	}
	_, err = w.lb.Operate(w.ctx, "ready", busy)
	w.must(err)
	w.must(w.lb.Routes(w.ctx, 5*time.Second, service, lab.NodeIDs(w.nodes...)...))
	if out, err := w.lb.Operate(w.ctx, "drain", "--wait", "-1s", server); err == nil || !strings.Contains(out+err.Error(), "must not be negative") {
		t.Errorf("drain --wait -1s: %q, %v, want it refused", out, err)
	}

	out, err = w.lb.Operate(w.ctx, "drain", "--wait", "10s", server)
	w.must(err)
	if !strings.Contains(out, "is kept in drain; api_nodes: drained") {
		t.Errorf("drain said %q", out)
	}
	w.must(w.lb.Routes(w.ctx, 5*time.Second, service, others...))
	drained := func() error {
		for _, i := range w.state().Instances(service) {
			if i.ID == server && i.Phase == "drained" {
				return nil
			}
		}
		return fmt.Errorf("%s is not drained", server)
	}
	w.must(lab.Until(w.ctx, 10*time.Second, server+" is drained", drained))

	if out, err := w.lb.Operate(w.ctx, "events", service); err != nil || !strings.Contains(out, "server draining: operator") {
		t.Errorf("events said %q, %v, want the drain in it", out, err)
	}

	record := filepath.Join(t.TempDir(), "record.json.gz")
	if out, err := w.lb.Operate(w.ctx, "record", record); err != nil {
		t.Errorf("record said %q, %v", out, err)
	}
	if out, err := w.lb.Operate(w.ctx, "replay", "--service", service, record); err != nil || !regexp.MustCompile(`drain (`+server+`|slot-\d+ \(`+server+`\)): operator`).MatchString(out) {
		t.Errorf("replay said %q, %v, want the drain in it", out, err)
	}

	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	w.must(w.lb.StartSidecar())
	w.must(w.lb.Ready(w.ctx, 20*time.Second))
	w.must(w.lb.Reread()) // and a comparison of everything
	w.must(w.lb.Routes(w.ctx, 5*time.Second, service, others...))
	w.must(drained())
	for command, want := range map[string]string{"drain": server, "plan": server} {
		if out, err := w.lb.Operate(w.ctx, command); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s said %q, %v, want %q in it", command, out, err, want)
		}
	}

	_, err = w.lb.Operate(w.ctx, "ready", server)
	w.must(err)
	w.must(w.lb.Routes(w.ctx, 5*time.Second, service, lab.NodeIDs(w.nodes...)...))
	w.mustLoseNothing(clients)
}
