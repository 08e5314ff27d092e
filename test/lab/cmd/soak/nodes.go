package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// fleets are the services and their nodes.
var fleets = []fleet{{"api", 5}, {"web", 3}}

type fleet struct {
	service string
	nodes   int
}

// mendLimit is how long anything may take to be right again. Most of it is for
// other faults that last meanwhile.
const mendLimit = 2 * time.Minute

// leaveLimit is more than any node may take to leave.
const leaveLimit = 90 * time.Second

func nodeKinds() []kind {
	blinding := func(f fault) []string { return []string{nodeOf(f), out(fleets[f.service].service), blind} }
	seen := func(f fault) []string { return []string{nodeOf(f), out(fleets[f.service].service)} }
	return []kind{
		{"node killed", 0, 6 * time.Second, blinding, nodeKilled},
		{"node stopped", time.Second, 8 * time.Second, blinding, nodeStopped},
		{"node hangs", time.Second, 4 * time.Second, blinding, nodeHangs},
		{"node unhealthy", 2 * time.Second, 8 * time.Second, seen, nodeUnhealthy},
		{"node leaves", 0, 4 * time.Second, blinding, nodeLeaves},
		{"rolling deployment", 0, 0, func(f fault) []string { return []string{"rolling/" + fleets[f.service].service} }, rollingDeployment},
	}
}

func nodeKilled(ctx context.Context, s *site, f fault, h *hold) error {
	n := s.node(f)
	if err := n.Kill(); err != nil {
		return err
	}
	if err := s.outOf(ctx, n, mendLimit); err != nil {
		return err
	}
	h.release(blind)
	pause(ctx, f.length)
	return s.bringBack(ctx, f, n)
}

func nodeStopped(ctx context.Context, s *site, f fault, h *hold) error {
	n := s.node(f)
	if err := n.Freeze(); err != nil {
		return err
	}
	until := time.Now().Add(f.length)
	if s.outOf(ctx, n, f.length) == nil {
		h.release(blind)
		pause(ctx, time.Until(until))
	}
	if err := n.Thaw(); err != nil {
		return err
	}
	return s.upOn(ctx, n)
}

func nodeHangs(ctx context.Context, s *site, f fault, _ *hold) error {
	return s.failing(ctx, f, "hang")
}

func nodeUnhealthy(ctx context.Context, s *site, f fault, _ *hold) error {
	return s.failing(ctx, f, "critical")
}

// failing puts the node into a mode for a while.
func (s *site) failing(ctx context.Context, f fault, mode string) error {
	n := s.node(f)
	if err := n.Fail(ctx, mode); err != nil {
		return err
	}
	pause(ctx, f.length)
	if err := n.Fail(ctx, "ok"); err != nil {
		return err
	}
	return s.upOn(ctx, n)
}

func nodeLeaves(ctx context.Context, s *site, f fault, h *hold) error {
	n := s.node(f)
	if err := s.leave(ctx, n); err != nil {
		return err
	}
	h.release(blind)
	pause(ctx, f.length)
	return s.bringBack(ctx, f, n)
}

// leave stops a node as a deployment does. Its exit code is not 0 if Consul
// does not answer meanwhile: that it has ended is what counts.
func (s *site) leave(ctx context.Context, n *lab.Node) error {
	if err := n.Terminate(); err != nil {
		return err
	}
	if err := n.Wait(leaveLimit); err != nil && n.Running() {
		return err
	}
	if code := n.ExitCode(); code != 0 && code != 1 {
		return fmt.Errorf("%s: exit code %d", n.Name, code)
	}
	return s.outOf(ctx, n, mendLimit)
}

// bringBack starts a node that has ended, under the same ID: at the same
// address, or at another.
func (s *site) bringBack(ctx context.Context, f fault, n *lab.Node) error {
	if f.coin {
		if err := n.Restart(ctx); err != nil {
			return err
		}
		return s.upOn(ctx, n)
	}
	moved, err := s.lab.StartNode(ctx, s.consul, fleets[f.service].service, n.Name, n.Version)
	if err != nil {
		return err
	}
	s.setNode(f.service, f.node, moved)
	return s.upOn(ctx, moved)
}

// rollingDeployment replaces the nodes one after the other; others may fail
// meanwhile.
func rollingDeployment(ctx context.Context, s *site, f fault, h *hold) error {
	fleet := fleets[f.service]
	for i := range fleet.nodes {
		needs := []string{nodeAt(f.service, i), blind}
		if err := h.more(ctx, needs...); err != nil {
			return err
		}
		old := s.nodeAt(f.service, i)
		fresh, err := s.lab.StartNode(ctx, s.consul, fleet.service, fmt.Sprintf("%s-%d-%d", fleet.service, f.number, i), fmt.Sprintf("1.%d", f.number))
		if err != nil {
			return err
		}
		if err := errors.Join(s.upOn(ctx, fresh), s.leave(ctx, old)); err != nil {
			return err
		}
		s.setNode(f.service, i, fresh)
		h.release(needs...)
	}
	return nil
}

// upOn waits until every HAProxy sends to the node.
func (s *site) upOn(ctx context.Context, n *lab.Node) error {
	return s.eachHas(ctx, mendLimit, n, true)
}

// outOf waits until no HAProxy sends to the node.
func (s *site) outOf(ctx context.Context, n *lab.Node, limit time.Duration) error {
	return s.eachHas(ctx, limit, n, false)
}

func (s *site) eachHas(ctx context.Context, limit time.Duration, n *lab.Node, want bool) error {
	what := map[bool]string{true: "every HAProxy has %s up", false: "no HAProxy has %s up"}[want]
	return lab.Until(ctx, limit, fmt.Sprintf(what, n.Name), func() error {
		for _, lb := range s.lbs {
			if _, up, err := serverAt(ctx, lb, n); err != nil || up != want {
				return errors.Join(fmt.Errorf("%s: up is %t", lb.Name, up), err)
			}
		}
		return nil
	})
}

// serverAt finds the server at a node's address.
func serverAt(ctx context.Context, lb *balancer, n *lab.Node) (server lab.Server, up bool, err error) {
	servers, err := lb.Servers(ctx, n.Service())
	for _, sv := range servers {
		// A slot that was left keeps its address, in maint.
		if sv.Addr == n.Addr() && (server.Name == "" || sv.Up) {
			server, up = sv, sv.Up
		}
	}
	return server, up, err
}

// pause waits for the length of a fault, or until all is ended.
func pause(ctx context.Context, d time.Duration) { _ = lab.Pause(ctx, d) }
