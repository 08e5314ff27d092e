package sim

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// node is one process that serves, and registers itself as the registrator
// does. While orderly it keeps the contract: it stops only after the load
// balancer has said that no session is on it. What is lost on a node that does not
// is not the sidecar's fault.
type node struct {
	w           *world
	id, service string
	addr        netip.AddrPort
	weight      int
	maxConn     int
	agentPort   int    // that it names, or 0; some services go by it
	says        string // its agent, if the service has agent checks
	backup      bool
	tags        []string // by which it claims routes
	version     string   // where there are rollouts

	alive     bool // the process runs
	listening bool // and answers
	leaving   bool
	waiting   bool   // for the load balancer's word
	asked     uint64 // Consul's index from which on that counts
	shared    bool   // another has been registered at its address
	orderly   bool
	filed     bool // when it was told, the file was said to have it
}

// String names it in the trace.
func (n *node) String() string { return n.id + "@" + n.addr.String() }

func (w *world) newNode(service, id string, addr netip.AddrPort) *node {
	n := &node{w: w, id: id, service: service, addr: addr, weight: 1, alive: true, orderly: true, says: saysFull}
	n.agentPort, n.tags = pick(w.eventRNG, 0, 5001, 5002), w.tags[service]
	if w.set.rollouts {
		n.version = pick(w.eventRNG, oldVersion, newVersion)
	}
	w.nodes = append(w.nodes, n)
	w.where[addr] = n
	return n
}

// fresh returns an address that no node has, or at times one that a node had.
func (w *world) fresh() netip.AddrPort {
	if w.maybe(0.4) {
		for n := range 12 {
			at := addrOf(n)
			if old := w.where[at]; old == nil || !old.alive {
				return at
			}
		}
	}
	for n := 12; ; n++ {
		if at := addrOf(n); w.where[at] == nil {
			return at
		}
	}
}

func addrOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 4000)
}

// begin lets a new node start: it listens, then registers.
func (w *world) begin(service, id string, boot time.Duration) {
	n := w.newNode(service, id, w.fresh())
	if w.maybe(0.1) {
		n.weight = 1 + w.eventRNG.IntN(4)
	}
	n.backup = w.maybe(0.04)
	w.after(boot, func() {
		if n.alive && !n.leaving {
			n.listening = true
			w.consul.register(n, catalog.Passing)
		}
	})
}

// newID is one that no node has that lives or is registered.
func (w *world) newID(service string) string {
	for k := 1; ; k++ {
		id := fmt.Sprintf("%s-%d", service, k)
		if w.nodeOf(service, id) == nil && w.consul.services[service][id] == nil {
			return id
		}
	}
}

// nodeOf returns the node that lives under a name.
func (w *world) nodeOf(service, id string) *node {
	for _, n := range w.nodes {
		if n.alive && n.service == service && n.id == id {
			return n
		}
	}
	return nil
}

// living returns the nodes of a service that are not on their way out.
func (w *world) living(service string) (out []*node) {
	for _, n := range w.nodes {
		if n.alive && !n.leaving && n.service == service {
			out = append(out, n)
		}
	}
	return out
}

// leave takes a node away in the right order.
func (n *node) leave() {
	if n.leaving || !n.alive {
		return
	}
	n.leaving, n.waiting = true, true
	if n.w.consul.registrationOf(n) == nil {
		// It is unknown, so it hears nothing.
		n.orderly, n.waiting = false, false
		n.stop()
		return
	}
	if n.w.maybe(0.1) {
		n.attend()
	}
	n.w.note("node %s leaves", n)
	n.w.consul.change(n, "leaving:", func(r *registration) { r.inst.Leaving = time.Unix(1, 0).Add(n.w.now()) })
	n.asked = n.w.consul.index
	patience := n.w.between(3*time.Second, 60*time.Second)
	n.w.after(patience, func() {
		if n.waiting && n.alive {
			n.w.note("node %s waits no longer", n)
			n.orderly, n.waiting = false, false
			n.stop()
		}
	})
}

// attend makes the sidecar that runs look often, as a long poll does. Not for
// long: it shows nothing new, and half of all time would go into it.
func (n *node) attend() {
	s, until := n.w.sidecar, n.w.now()+500*time.Millisecond
	if s == nil {
		return
	}
	n.w.after(0, func() { s.agent.Attend(+1) })
	var done func()
	done = func() {
		if n.waiting && n.alive && n.w.now() < until {
			n.w.after(100*time.Millisecond, done)
			return
		}
		s.agent.Attend(-1)
	}
	n.w.after(400*time.Millisecond, done)
}

// released is the load balancer's word that no session is on the node any more.
func (n *node) released(file bool) {
	n.waiting, n.filed = false, file
	n.w.note("node %s gets the answer drained", n)
	n.w.after(time.Duration(n.w.callRNG.Int64N(int64(20*time.Millisecond))), n.stop)
}

// stop ends it: it accepts nothing more, and deregisters.
func (n *node) stop() {
	if !n.alive {
		return
	}
	at := place{n.service, n.addr}
	if (n.shared || n.w.proxy.hasOthersAt(at, n.id)) && n.w.consul.registrationOf(n) == nil {
		n.orderly = false // it asks for itself, and no sidecar knows that it is at that address
	}
	if n.orderly {
		if k := len(n.w.proxy.sessionsOn(at)); k > 0 {
			n.w.breach(leaveOrder, "node %s got the answer drained with %d sessions", n, k)
		}
		if !n.w.consul.routesTo(n) {
			n.w.left[at] = n.filed
		}
	}
	n.w.note("node %s stops", n)
	n.alive, n.listening = false, false
	n.w.proxy.cut(n)
	n.w.after(n.w.upTo(300*time.Millisecond), func() { n.w.consul.deregister(n) })
}

// die ends it out of order. Consul hears of it later.
func (n *node) die() {
	if !n.alive {
		return
	}
	n.w.note("node %s dies", n)
	n.orderly, n.waiting, n.alive, n.listening = false, false, false, false
	n.w.proxy.cut(n)
	w := n.w
	if w.maybe(0.5) {
		w.after(w.between(100*time.Millisecond, 4*time.Second), func() {
			w.consul.change(n, "critical:", func(r *registration) { r.check = catalog.Critical })
		})
	}
	w.after(w.between(100*time.Millisecond, 20*time.Second), func() { w.consul.deregister(n) })
}
