package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/test/lab"
)

const (
	stormRate    = 1000 // changes a second
	stormTime    = 10 * time.Second
	stormSenders = 20
	stormLimit   = 20 * time.Second
)

// storm sends changes faster than they can be followed one by one, while a
// service has traffic: none may be lost, and requests must not become slow.
func storm(ctx context.Context, b *bench) error {
	s, err := b.startSite(ctx, fleet{services: 100, instances: 10}, live)
	if err != nil {
		return err
	}
	if _, err := s.startNodes(ctx, b.lab, "1.0", nil); err != nil {
		return err
	}
	before, err := s.lb.WorkerPID(ctx)
	if err != nil {
		return err
	}
	b.step("traffic while nothing changes")
	quiet, err := s.quiet(ctx, b.lab)
	if err != nil {
		return err
	}
	b.step("traffic while %d changes a second are sent", stormRate)
	var sent int
	var settled time.Duration
	during, err := s.traffic(b.lab, "client-storm", func() (err error) {
		sent, settled, err = s.sendStorm(ctx)
		return err
	})
	if err != nil {
		return err
	}
	after, err := s.lb.WorkerPID(ctx)
	if err == nil && after != before {
		err = errors.New("HAProxy was reloaded meanwhile")
	}
	b.result.Runs, b.result.Changes = 1, sent
	b.result.Figures = append(b.result.Figures,
		none("changes lost", 0), // else it has failed
		failures(quiet.Failed+during.Failed), slowdown(during.P99, quiet.P99),
		single("changes a second that Consul took", "", "Consul", float64(sent)/stormTime.Seconds()),
		single("after the last change, until HAProxy has all", "ms", sidecar, milliseconds(settled)))
	return err
}

// sendStorm sends the changes and waits until HAProxy has the last one of each
// instance.
func (s *site) sendStorm(ctx context.Context) (sent int, settled time.Duration, err error) {
	var all []instance
	for _, service := range s.services {
		all = append(all, service...)
	}
	weights := make([]int, len(all))
	deadline := time.Now().Add(stormTime)
	counts := make([]int, stormSenders)
	group, sending := errgroup.WithContext(ctx)
	for sender := range stormSenders {
		group.Go(func() error {
			// One after the other: of two changes under way, either may be the last.
			due := time.Now()
			for k := sender; time.Now().Before(deadline); k += stormSenders {
				i := k % len(all)
				weights[i] = nextWeight(weights[i])
				if err := all[i].setWeight(sending, s.consul.Client, weights[i]); err != nil {
					return err
				}
				counts[sender]++
				due = due.Add(stormSenders * time.Second / stormRate)
				if err := pause(sending, time.Until(due)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	for _, n := range counts {
		sent += n
	}
	began := time.Now()
	err = lab.Until(ctx, stormLimit, "HAProxy has every change", func() error { return s.shows(ctx, all, weights) })
	return sent, time.Since(began), err
}

func (s *site) shows(ctx context.Context, all []instance, weights []int) error {
	socket, err := openSocket(ctx, s.lb.Socket())
	if err != nil {
		return err
	}
	defer socket.close()
	lost := 0
	for i, inst := range all {
		if weights[i] == 0 {
			continue // never changed
		}
		got, err := socket.weights([]string{inst.server})
		if err != nil {
			return err
		}
		if got[0] != weights[i] {
			lost++
		}
	}
	if lost > 0 {
		return fmt.Errorf("%d instances have another weight", lost)
	}
	return nil
}
