package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// busyLeave is a world with two load balancers in which an old node, which has
// a long request under way through lb0, is asked to stop and drains.
type busyLeave struct {
	*pair
	clients []*lab.Client
	busy    *lab.Node
	began   time.Time  // when it was asked to stop
	slow    chan error // the long request's end
	ended   time.Time  // when that was; set before slow gets its value
}

// newBusyLeave holds the request for a time, which begins before the stop.
func newBusyLeave(t *testing.T, held time.Duration) *busyLeave {
	t.Helper()
	b := &busyLeave{pair: newPair(t), slow: make(chan error, 1)}
	b.clients = b.discovering()
	go func() {
		err := b.slowRequest(b.ctx, held)
		b.ended = time.Now()
		b.slow <- err
	}()
	b.busy = b.busyNode()
	fresh := b.startNodes("1.1", "new", 3)
	for _, lb := range b.both() {
		b.must(lb.Routes(b.ctx, 20*time.Second, service, append(lab.NodeIDs(b.nodes...), lab.NodeIDs(fresh...)...)...))
	}
	b.began = time.Now()
	b.must(b.busy.Terminate())
	b.must(lab.Until(b.ctx, 10*time.Second, "the node drains", func() error { return b.phase("draining") }))
	return b
}

func (b *busyLeave) phase(want string) error {
	s, err := b.lb.State(b.ctx)
	if err != nil {
		return err
	}
	for _, i := range s.Instances(service) {
		if i.ID == b.busy.Name && i.Phase == want {
			return nil
		}
	}
	return fmt.Errorf("it is not %s", want)
}

// mustFinish waits for the node's exit, which has to come within its bound, and
// fails if it came before the request's end or if anything was lost.
func (b *busyLeave) mustFinish(bound time.Duration) {
	b.Helper()
	b.must(b.busy.Wait(bound))
	left := time.Now()
	if err := <-b.slow; err != nil {
		b.Errorf("the long request: %v", err)
	}
	if left.Before(b.ended) {
		b.Errorf("the node left %s before the request on it had ended", b.ended.Sub(left))
	}
	if took := left.Sub(b.began); took > bound {
		b.Errorf("the node took %s to leave, more than its bound of %s", took, bound)
	}
	b.mustLoseNothing(b.clients)
}

func TestALeavingNodeWaitsForNoLongerThanTheLastLoadBalancerAndNoShorter(t *testing.T) {
	t.Parallel()
	b := newBusyLeave(t, 8*time.Second)
	b.mustFinish(20 * time.Second)
	// 3 s is the fixed wait that it would have had without asking.
	if took, held := time.Since(b.began), b.ended.Sub(b.began); took > held+3*time.Second {
		t.Errorf("it left after %s, its last request ended after %s", took, held)
	}
}

func TestASidecarThatDiesInTheMiddleOfADrainHoldsUpNoNode(t *testing.T) {
	t.Parallel()
	b := newBusyLeave(t, 10*time.Second)
	b.must(b.lb.Sidecar.Kill())
	b.mustFinish(30 * time.Second)
}

func TestAReloadInTheMiddleOfADrainIsWaitedForInTheOldWorker(t *testing.T) {
	t.Parallel()
	b := newBusyLeave(t, 10*time.Second)
	pid := b.workerPID()
	web, err := b.StartNode(b.ctx, b.consul, "web", "web0", "1.0")
	b.must(err)
	b.must(b.lb.SetServices(append(slices.Clone(b.lb.Services()), lab.Service{Name: "web"})...))
	b.must(b.lb.Reread())
	b.must(b.lb.Routes(b.ctx, 20*time.Second, "web", web.Name))
	if now := b.workerPID(); now == pid {
		t.Fatal("there was no reload")
	}
	if !b.busy.Running() {
		t.Fatal("the node left though an old worker has a request on it")
	}
	b.mustFinish(30 * time.Second)
}

func TestConsulAwayInTheMiddleOfADrainHoldsUpNoNode(t *testing.T) {
	t.Parallel()
	b := newBusyLeave(t, 8*time.Second)
	b.must(b.consul.Kill())
	if err := b.busy.Wait(40 * time.Second); err == nil {
		t.Error("got exit code 0 of a node that could not deregister")
	}
	left := time.Now()
	if err := <-b.slow; err != nil {
		t.Errorf("the long request: %v", err)
	}
	if left.Before(b.ended) {
		t.Errorf("the node left %s before the request on it had ended", b.ended.Sub(left))
	}
	b.mustLoseNothing(b.clients)
}

// The replacement has the leaving node's own ID, as a supervisor's restart that
// does not wait for the end.
func TestANodeThatComesBackWhileItIsLeavingIsNotTakenAwayByItsOwnEnd(t *testing.T) {
	t.Parallel()
	b := newBusyLeave(t, 6*time.Second)
	again, err := b.StartNode(b.ctx, b.consul, service, b.busy.Name, "1.2")
	b.must(err)
	b.must(b.busy.Wait(40 * time.Second))
	if err := <-b.slow; err != nil {
		t.Errorf("the long request: %v", err)
	}
	b.must(lab.Until(b.ctx, 10*time.Second, "the new one of that name takes traffic on both", func() error {
		for _, lb := range b.both() {
			s, err := lb.State(b.ctx)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(s.Instances(service), func(i lab.Instance) bool {
				return i.ID == again.Name && i.Version == "1.2" && i.Phase == "up"
			}) {
				return errors.New(lb.Name + " does not route to it")
			}
		}
		return nil
	}))
	b.must(again.Registered(b.ctx, time.Second, "passing"))
	b.mustLoseNothing(b.clients)
}
