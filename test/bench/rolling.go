package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

const (
	rollingFleet = 1000
	rollingBatch = 50
	rollingLimit = time.Minute
)

// rolling replaces the instances of a service, some at a time, as an
// orchestrator does: the new ones register, the old ones say that they leave,
// and are deregistered when the sidecar calls them drained.
func rolling(ctx context.Context, b *bench) error {
	s, err := b.startSite(ctx, fleet{services: 1, instances: rollingFleet})
	if err != nil {
		return err
	}
	before, err := s.lb.WorkerPID(ctx)
	if err != nil {
		return err
	}
	old := s.services[0]
	// A service of another number has other addresses.
	fresh := fleet{services: 1, instances: rollingFleet}.service(old[0].service, 2)
	for i := range fresh {
		fresh[i].id, fresh[i].node = "new-"+fresh[i].id, "new-"+fresh[i].node
	}
	var in, out []time.Duration
	began := time.Now()
	for at := 0; at < rollingFleet; at += rollingBatch {
		up, gone, err := s.replace(ctx, old[at:at+rollingBatch], fresh[at:at+rollingBatch])
		if err != nil {
			return err
		}
		in, out = append(in, up), append(out, gone)
		if (at+rollingBatch)%250 == 0 {
			b.step("%d of %d replaced", at+rollingBatch, rollingFleet)
		}
	}
	took := time.Since(began)
	after, err := s.lb.WorkerPID(ctx)
	reloads := 0.0
	if after != before {
		reloads = 1
	}
	b.result.Runs, b.result.Changes = 1, rollingFleet
	b.result.Figures = append(b.result.Figures,
		single("all replaced", "s", sidecar, took.Seconds()),
		Figure{Name: "50 new ones, from the request to Consul until they take traffic", Unit: "ms", Values: []Value{{sidecar, spread(each64(in))}}},
		Figure{Name: "50 old ones, from the mark as leaving until deleted", Unit: "ms", Values: []Value{{sidecar, spread(each64(out))}}},
		none("reloads", reloads))
	return err
}

func each64(all []time.Duration) (values []float64) {
	for _, d := range all {
		values = append(values, milliseconds(d))
	}
	return values
}

func (s *site) replace(ctx context.Context, old, fresh []instance) (up, gone time.Duration, err error) {
	began := time.Now()
	if err := register(ctx, s.consul.Client, fresh); err != nil {
		return 0, 0, err
	}
	if err := s.awaitServers(ctx, fresh, true); err != nil {
		return 0, 0, err
	}
	up = time.Since(began)
	leaving := time.Now()
	for i := range old {
		old[i].leaving = leaving.UTC().Format(time.RFC3339)
	}
	if err := register(ctx, s.consul.Client, old); err != nil {
		return 0, 0, err
	}
	for _, i := range old {
		if err := s.lb.Drained(ctx, i.service, i.id, rollingLimit); err != nil {
			return 0, 0, err
		}
	}
	for _, i := range old {
		if _, err := s.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: i.node, ServiceID: i.id}, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
			return 0, 0, err
		}
	}
	err = s.awaitServers(ctx, old, false)
	return up, time.Since(leaving), err
}

// awaitServers waits until HAProxy sends traffic to all instances, or none.
func (s *site) awaitServers(ctx context.Context, instances []instance, wanted bool) error {
	backend := instances[0].service
	return lab.Until(ctx, rollingLimit, "HAProxy has the instances", func() error {
		servers, err := s.lb.Servers(ctx, backend)
		if err != nil {
			return err
		}
		up := map[string]bool{}
		for _, is := range servers {
			if is.Up {
				up[is.Addr] = true
			}
		}
		for _, i := range instances {
			if up[i.address()] != wanted {
				err = errors.Join(err, fmt.Errorf("%s: takes traffic: %v", i.id, !wanted))
			}
		}
		return err
	})
}
