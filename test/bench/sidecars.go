package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

const (
	sidecarCount   = 100
	sidecarChanges = 20
	sidecarEvery   = 2 * time.Second
)

// fileLater keeps the sidecars from writing haproxy.cfg while changes are
// measured: a hundred checks of it at once are this machine's, where a fleet
// has one on each machine.
const fileLater = "file_delay: 1m\n"

// sidecars measures what many sidecars, each with its HAProxy, take of one
// Consul: while nothing changes, and for each change.
func sidecars(ctx context.Context, b *bench) error {
	s, err := b.newSite(ctx, fleet{services: 1, instances: 10})
	if err != nil {
		return err
	}
	alone, err1 := share(ctx, idleTime/2, s.consul.PID())
	aloneMiB, err2 := residentMiB(s.consul.PID())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	all, err := s.startMany(ctx, b)
	if err != nil {
		return err
	}
	pids := make([]int, len(all))
	for i, lb := range all {
		pids[i] = lb.Sidecar.PID()
	}
	idle, err1 := share(ctx, idleTime/2, s.consul.PID())
	idleAll, err2 := share(ctx, idleTime/2, pids...)
	idleMiB, err3 := residentMiB(s.consul.PID())
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	began := time.Now()
	usedBefore, err := cpuTime(s.consul.PID())
	if err != nil {
		return err
	}
	middle, last, err := s.changesForMany(ctx, all)
	if err != nil {
		return err
	}
	usedAfter, err := cpuTime(s.consul.PID())
	// What Consul does anyway in this time is not the changes'.
	used := usedAfter - usedBefore - time.Duration(idle/100*float64(time.Since(began)))
	b.result.Runs, b.result.Changes = 1, sidecarChanges
	one := func(of string, v float64) Value { return Value{of, spread([]float64{v})} }
	b.result.Figures = append(b.result.Figures,
		Figure{Name: "Consul, idle", Unit: "% of a core", Values: []Value{one("with 100", idle), one("with none", alone)}},
		Figure{Name: "Consul's resident memory", Unit: "MiB", Values: []Value{one("with 100", idleMiB), one("with none", aloneMiB)}},
		Figure{Name: "a sidecar, idle", Unit: "% of a core", Values: []Value{one("each", idleAll/sidecarCount)}},
		Figure{Name: "Consul, for each change", Unit: "ms of a core", Values: []Value{one("100 sidecars", milliseconds(used)/sidecarChanges)}},
		Figure{Name: "p50 of a change, until 50 and until all 100 HAProxys show it", Unit: "ms", Values: []Value{{"50", Spread{quantile(middle, 0.5), quantile(middle, 0), quantile(middle, 1)}}, {"100", Spread{quantile(last, 0.5), quantile(last, 0), quantile(last, 1)}}}})
	return err
}

// startMany starts sidecars and HAProxys beside the site's own, one after the
// other.
func (s *site) startMany(ctx context.Context, b *bench) ([]*lab.Balancer, error) {
	var all []*lab.Balancer
	for i := range sidecarCount {
		lb := s.lb
		if i > 0 {
			var err error
			if lb, err = b.lab.NewBalancer(fmt.Sprintf("lb%d", i), s.consul, s.lb.Services()...); err != nil {
				return nil, err
			}
		}
		if err := errors.Join(lb.SetHAProxy(haproxySettings), lb.SetExtra(otherMachines+fileLater), lb.StartSidecar(), lb.StartHAProxy(ctx), lb.Ready(ctx, startLimit)); err != nil {
			return nil, err
		}
		all = append(all, lb)
		if (i+1)%25 == 0 {
			b.step("%d of %d sidecars run", i+1, sidecarCount)
		}
	}
	return all, errors.Join(s.findServers(ctx), pause(ctx, 2*settleTime))
}

// changesForMany measures how long changes take until half of the HAProxys show
// them, and until all do.
func (s *site) changesForMany(ctx context.Context, all []*lab.Balancer) (middle, last []time.Duration, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var open []*socket
	for _, lb := range all {
		socket, err := openSocket(ctx, lb.Socket())
		if err != nil {
			return nil, nil, err
		}
		context.AfterFunc(ctx, socket.close)
		open = append(open, socket)
	}
	target, weight := s.services[0][0], 1
	for range sidecarChanges {
		began := time.Now()
		weight = nextWeight(weight)
		if err := target.setWeight(ctx, s.consul.Client, weight); err != nil {
			return nil, nil, err
		}
		waiting := slices.Clone(open)
		halfway := time.Duration(0)
		for len(waiting) > 0 {
			waiting = slices.DeleteFunc(waiting, func(at *socket) bool {
				got, errLook := at.weights([]string{target.server})
				err = errors.Join(err, errLook)
				return errLook == nil && got[0] == weight
			})
			if err == nil && time.Since(began) > lostAfter {
				err = fmt.Errorf("change lost: %d HAProxys have another weight", len(waiting))
			}
			if err != nil {
				return nil, nil, err
			}
			if halfway == 0 && len(waiting) <= len(all)/2 {
				halfway = time.Since(began)
			}
		}
		middle, last = append(middle, halfway), append(last, time.Since(began))
		if err := pause(ctx, sidecarEvery-time.Since(began)); err != nil {
			return nil, nil, err
		}
	}
	return middle, last, nil
}

// share returns what processes take of a core together, in per cent.
func share(ctx context.Context, d time.Duration, pids ...int) (float64, error) {
	began := time.Now()
	before, err := cpuTimes(pids)
	if err := errors.Join(err, pause(ctx, d)); err != nil {
		return 0, err
	}
	after, err := cpuTimes(pids)
	return 100 * (after - before).Seconds() / time.Since(began).Seconds(), err
}

func cpuTimes(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		used, errOne := cpuTime(pid)
		sum, err = sum+used, errors.Join(err, errOne)
	}
	return sum, err
}
