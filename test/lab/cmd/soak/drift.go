package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/pointsman/pointsman/test/lab"
)

// driftKinds are changes over the runtime socket, as an operator makes them with
// socat. They last until the sidecar has undone them.
func driftKinds() []kind {
	var all []kind
	for _, d := range []struct {
		name  string
		lines []string // %s is backend/server
		blind bool
	}{
		{"drift: server drained", []string{"set server %s state drain"}, false},
		{"drift: server in maint", []string{"set server %s state maint"}, false},
		{"drift: server disabled", []string{"disable server %s"}, false},
		{"drift: weight changed", []string{"set server %s weight 77"}, false},
		{"drift: weight 0", []string{"set server %s weight 0"}, false},
		{"drift: address without a node", []string{"set server %s addr 127.0.0.1 port 9"}, true},
		{"drift: server put down", []string{"set server %s health down"}, false},
		{"drift: server deleted", []string{"set server %s state maint", "del server %s"}, false},
	} {
		needs := func(f fault) []string {
			n := []string{nodeOf(f), out(fleets[f.service].service), haproxyOf(f.lb)}
			if d.blind {
				n = append(n, blind)
			}
			return n
		}
		all = append(all, kind{name: d.name, needs: needs, do: func(ctx context.Context, s *site, f fault, _ *hold) error {
			return drift(ctx, s, f, d.lines)
		}})
	}
	return all
}

func drift(ctx context.Context, s *site, f fault, lines []string) error {
	lb, n := s.lbs[f.lb], s.node(f)
	if err := s.upOn(ctx, n); err != nil { // another fault may have it down for a moment
		return err
	}
	before, _, err := serverAt(ctx, lb, n)
	if err != nil {
		return err
	}
	for _, l := range lines {
		answer, err := lb.Runtime(ctx, fmt.Sprintf(l, n.Service()+"/"+before.Name))
		if err != nil {
			return err
		}
		if answer = strings.TrimSpace(answer); answer != "" {
			s.logf("#%d HAProxy says: %s", f.number, answer)
		}
	}
	return lab.Until(ctx, mendLimit, lb.Name+" has "+n.Name+" as before", func() error {
		now, up, err := serverAt(ctx, lb, n)
		if err == nil && (!up || now.Weight != before.Weight) {
			err = fmt.Errorf("it is %+v, was %+v", now, before)
		}
		return err
	})
}
