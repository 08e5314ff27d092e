package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// floodNode is the Consul node of dead instances.
const floodNode = "flood"

// registerDead registers dead instances of api, some at a time, at addresses of this machine where nothing listens.
func (w *world) registerDead(ctx context.Context, from, to, port int) error {
	ops := api.TxnOps{&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: floodNode, Address: "127.0.0.1"}}}}
	for i := from; i < to; i++ {
		ops = append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: floodNode, Service: api.AgentService{
			ID: fmt.Sprintf("flood-%d", i), Service: service, Address: fmt.Sprintf("127.9.%d.%d", i/250, i%250+1), Port: port,
		}}})
		if len(ops) < 64 && i+1 < to {
			continue
		}
		ok, answer, _, err := w.consul.Client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("registration refused: %v", answer.Errors)
		}
		ops = ops[:0]
	}
	return nil
}

// flooded is how many of the flood's servers HAProxy has.
func (w *world) flooded() int {
	servers, err := w.lb.Servers(w.ctx, "api_nodes")
	w.must(err)
	n := 0
	for _, s := range servers {
		if strings.HasPrefix(s.Addr, "127.9.") {
			n++
		}
	}
	return n
}

// One service's flood held up the others for 10 to 80 s (issue 14, section 5). That
// they do not wait for it shows in the order of what happens, not by a clock.
func TestFlood_OfOneService_OthersChangeMeanwhile(t *testing.T) {
	const dead = 6000
	w := worldOf(t,
		lab.Service{Name: service, Backend: "api_nodes"}, lab.Service{Name: "billing", Backend: "billing_nodes"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}")) // they stand for other machines
	w.must(w.lb.Start(w.ctx))
	for _, s := range []string{service, "billing"} {
		_, err := w.StartNode(w.ctx, w.consul, s, s+"-0", "1.0")
		w.must(err)
		w.must(w.lb.Routes(w.ctx, 20*time.Second, s, s+"-0"))
	}
	w.must(w.registerDead(w.ctx, 0, dead, 9))
	// Without servers at runtime it may have to wait for a reload, which takes longer on a busy
	// machine than a node waits by default.
	node, err := w.StartNode(w.ctx, w.consul, "billing", "billing-1", "1.0", "--leave-timeout", "85s")
	w.must(err)
	w.must(w.hasUp("billing_nodes", node.Addr()))
	if n := w.flooded(); n == dead {
		t.Error("a new node of billing was routed after all of the flood")
	} else {
		t.Logf("a new node of billing was routed after %d of %d", n, dead)
	}
	state, err := w.lb.State(w.ctx)
	w.must(err)
	if state.Behind.Changes == 0 || state.Behind.Since.IsZero() {
		t.Errorf("the state has behind %+v in the flood, want changes and since when", state.Behind)
	}
	w.must(node.Leave(110 * time.Second))
	// Without servers at runtime one reload brings all of the flood. A node that leaves
	// meanwhile waits for its end, and for no other; where it has left before the file was
	// made, the new worker begins without it, and no drain is sent.
	n, reloads := w.flooded(), w.state().Reloads.Succeeded-state.Reloads.Succeeded
	t.Logf("a node of billing had left after %d of %d, and %d reloads", n, dead, reloads)
	if reloads > 1 {
		t.Errorf("a node of billing had left after %d reloads, want 1 at most", reloads)
	}
	if reloads > 0 {
		return
	}
	w.must(lab.Until(w.ctx, 90*time.Second, "the flood goes on after the node's drain", func() error {
		_, after, drained := strings.Cut(w.lb.Sidecar.Tail(1000000), "server drain: lb=lb0 backend=billing_nodes")
		if !drained || strings.Count(after, "backend=api_nodes") < 1000 {
			return fmt.Errorf("drained %v, and %d changes of api after it", drained, strings.Count(after, "backend=api_nodes"))
		}
		return nil
	}))
}

// The flood waits for the sidecar as one answer of Consul, and its steps are under way
// when other changes come: the sidecar is frozen between two of them until Consul has
// these. How many steps of the flood its log has before them is no matter of time.
func TestFlood_OfOneService_OthersAndItsOwnRemovalGoBetweenItsSteps(t *testing.T) {
	const (
		dead = 6000
		most = 2000 // steps of the flood: some turns, while the answers of Consul are read
	)
	w := worldOf(t,
		// Where servers are slots, a reload would bring the flood at once.
		lab.Service{Name: service, Backend: "api_nodes", Extra: "    slots: {min: 7000}\n"},
		lab.Service{Name: "billing", Backend: "billing_nodes"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}")) // they stand for other machines
	w.must(w.lb.Start(w.ctx))
	var leaves *lab.Node
	for _, n := range []struct{ service, id string }{{service, "api-0"}, {"billing", "billing-0"}, {"billing", "billing-1"}} {
		var err error
		leaves, err = w.StartNode(w.ctx, w.consul, n.service, n.id, "1.0", "--leave-timeout", "85s", "--leave-wait", "85s")
		w.must(err)
		w.must(w.hasUp(n.service+"_nodes", leaves.Addr()))
	}
	lines := func() []string { return strings.Split(w.lb.Sidecar.Tail(1000000), "\n") }
	begun := len(lines())
	w.must(w.lb.Sidecar.Freeze())
	w.must(w.registerDead(w.ctx, 0, dead, 9))
	w.must(w.lb.Sidecar.Thaw())
	floods := func(from int) []string {
		all := lines()
		return slices.DeleteFunc(all[min(from, len(all)):], func(line string) bool { return !isStepOf(line, "flood-") })
	}
	w.must(lab.Until(w.ctx, 90*time.Second, "the flood's steps are under way", func() error {
		if n := len(floods(begun)); n < 300 { // more than Consul's first answer had
			return fmt.Errorf("%d are taken", n)
		}
		return nil
	}))
	w.must(w.lb.Sidecar.Freeze())
	at := len(lines())
	taken := floods(begun)
	if len(taken) > dead/2 {
		t.Fatalf("%d of %d are taken already: nothing can come between them", len(taken), dead)
	}
	_, err := w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: floodNode, ServiceID: valueOf(taken[0], "instance")}, nil)
	w.must(err)
	w.must(leaves.Terminate())
	w.must(lab.Until(w.ctx, 20*time.Second, "Consul has that the node leaves", func() error {
		found, _, err := w.consul.Client.Catalog().Service("billing", "", nil)
		for _, s := range found {
			if s.ServiceID == leaves.Name && s.ServiceMeta["pointsman-drain"] != "" {
				return err
			}
		}
		return errors.Join(err, errors.New("it has not"))
	}))
	w.must(w.lb.Sidecar.Thaw())
	for what, is := range map[string]func(line string) bool{
		"the drain of another service's node": func(line string) bool {
			return strings.Contains(line, "server drain: ") && strings.Contains(line, "backend=billing_nodes")
		},
		"the removal of one that came with it": func(line string) bool {
			return (strings.Contains(line, "server drain: ") || strings.Contains(line, "server maint: ")) &&
				strings.Contains(line, "backend=api_nodes") && valueOf(line, "server") == valueOf(taken[0], "server")
		},
	} {
		w.must(lab.Until(w.ctx, 60*time.Second, what, func() error {
			if !slices.ContainsFunc(lines()[at:], is) {
				return errors.New("it has not come")
			}
			return nil
		}))
		rest := lines()[at:]
		before := 0
		for _, line := range rest[:slices.IndexFunc(rest, is)] {
			if isStepOf(line, "flood-") {
				before++
			}
		}
		t.Logf("%d steps of the flood were taken, and %d more before %s", len(taken), before, what)
		if before > most {
			t.Errorf("%d steps of the flood came before %s, want %d at most", before, what, most)
		}
	}
	w.must(leaves.Wait(90 * time.Second))
}

// isStepOf reports whether a line of the sidecar's log is a step for an instance whose ID begins so.
func isStepOf(line, id string) bool {
	return strings.Contains(line, " server ") && strings.HasPrefix(valueOf(line, "instance"), id)
}

// valueOf is a field of a line of the sidecar's log. A server has its instance's name
// where the line names none.
func valueOf(line, field string) string {
	_, after, found := strings.Cut(line, " "+field+"=")
	if !found && field == "instance" {
		return valueOf(line, "server")
	}
	value, _, _ := strings.Cut(after, " ")
	return value
}

// In a flood the sidecar said that all was well (issue 14, section 5). The instances
// move as fast as Consul takes it, so that HAProxy has not all of it at any time.
func TestFlood_GoesOn_SidecarSaysThatItIsBehind(t *testing.T) {
	const dead = 3000
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	w.must(w.lb.SetExtra("addresses: {allow: [127.0.0.0/8]}")) // they stand for other machines
	w.must(w.lb.Start(w.ctx))
	said := ""
	for round := 0; said == ""; round++ {
		if round == 300 {
			t.Fatalf("after %d rounds it says nothing, and has behind %+v", round, w.state().Behind)
		}
		w.must(w.registerDead(w.ctx, 0, dead, 9+round%2))
		body, code, err := w.getWith(w.lb.StatusURL()+"/readyz", "")
		w.must(err)
		if code == http.StatusServiceUnavailable && strings.Contains(body, "behind Consul by ") {
			said = body
		}
	}
	if !strings.Contains(said, " changes, oldest ") {
		t.Errorf("/readyz says %q, want how many changes, and since when", said)
	}
	w.loggedIn(1000000, "behind Consul", "changes=", "oldest=")
	for _, name := range []string{"pointsman_behind_changes", "pointsman_behind_seconds"} {
		if n, err := w.lb.Metric(w.ctx, name); err != nil || n == 0 {
			t.Errorf("%s: got %v, %v, want how far it is behind", name, n, err)
		}
	}
	w.must(w.lb.Ready(w.ctx, 120*time.Second))
	w.loggedIn(1000000, "no longer behind Consul")
}

// hasUp waits until HAProxy has a server at an address, and it is up.
func (w *world) hasUp(backend, addr string) error {
	return lab.Until(w.ctx, 90*time.Second, "HAProxy has "+addr+" up", func() error {
		servers, err := w.lb.Servers(w.ctx, backend)
		for _, s := range servers {
			if s.Addr == addr && s.Up {
				return err
			}
		}
		return errors.Join(err, errors.New("it has not"))
	})
}
