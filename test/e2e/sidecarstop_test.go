package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// leaveWait is what a node gives to a load balancer that can't be asked.
const leaveWait = 3 * time.Second

// stopSidecar stops the sidecar of lb0 in order, as an upgrade does.
func (p *pair) stopSidecar() {
	p.Helper()
	p.must(p.lb.Sidecar.Stop(10 * time.Second))
}

// record is what Consul has of lb0's sidecar.
func (p *pair) record() *api.ServiceEntry {
	p.Helper()
	all, _, err := p.consul.Client.Health().Service("pointsman-sidecar", "", false, nil)
	p.must(err)
	for _, e := range all {
		if e.Service.ID == "pointsman-sidecar-lb0" {
			return e
		}
	}
	return nil
}

// leaves stops a node, and gives how long it took to leave.
func (p *pair) leaves(n *lab.Node) time.Duration {
	p.Helper()
	begun := time.Now()
	p.must(n.Leave(30 * time.Second))
	return time.Since(begun)
}

func TestSidecarUpgrade_NodeLeavesMeanwhile_LosesNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	clients := p.discovering()
	for i, n := range p.nodes[:2] {
		p.stopSidecar()
		begun := time.Now()
		p.must(n.Terminate())
		// lb1's HAProxy has no session of it any more: only lb0's keeps it.
		p.must(lab.Until(p.ctx, 10*time.Second, "it has drained on lb1", func() error {
			s, err := p.lb1.State(p.ctx)
			for _, inst := range s.Instances(service) {
				if inst.ID == n.Name && (inst.Phase == "drained" || inst.Phase == "out") && inst.Sessions == 0 {
					return err
				}
			}
			return fmt.Errorf("%+v (%w)", s.Instances(service), err)
		}))
		if !n.Running() {
			t.Error("the node has left, while no sidecar was there to tell lb0's HAProxy")
		}
		p.must(p.lb.StartSidecar())
		p.must(n.Wait(30 * time.Second))
		if took := time.Since(begun); took > 2*leaveWait {
			t.Errorf("the node took %s to leave, want it soon after the new sidecar is there", took)
		}
		// It has asked lb0, or waited for it. Without the record it does neither, and has left
		// a moment after lb1 has drained, before the new sidecar is there.
		if log := n.Tail(20); !strings.Contains(log, `"lb":"lb0"`) {
			t.Errorf("the node has left without lb0:\n%s", log)
		}
		fresh, err := p.StartNode(p.ctx, p.consul, service, fmt.Sprintf("new%d", i), "1.1")
		p.must(err)
		p.nodes = append(p.nodes, fresh)
		for _, lb := range p.both() {
			p.must(lb.Routes(p.ctx, 20*time.Second, service, lab.NodeIDs(p.nodes[i+1:]...)...))
		}
	}
	p.mustLoseNothing(clients)
}

func TestSidecarStop_HAProxyRuns_NodeGivesItLeaveWait(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.stopSidecar()
	if took := p.leaves(p.nodes[0]); took < leaveWait || took > 2*leaveWait {
		t.Errorf("the node left after %s, want leave_wait, %s", took, leaveWait)
	}
}

// A load balancer that is scaled down slows no node.
func TestSidecarStop_HAProxyStopsToo_NodeDoesNotWait(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.stopSidecar()
	p.must(p.lb.HAProxy.Stop(10 * time.Second))
	p.must(lab.Until(p.ctx, 10*time.Second, "the record of lb0 has ended", func() error {
		if e := p.record(); e != nil && e.Checks.AggregatedStatus() != api.HealthCritical {
			return fmt.Errorf("it is %s", e.Checks.AggregatedStatus())
		}
		return nil
	}))
	if took := p.leaves(p.nodes[0]); took >= leaveWait {
		t.Errorf("the node left after %s, want no wait for a load balancer that is gone", took)
	}
}
