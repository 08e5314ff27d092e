package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// atOnce is how many faults there are at a time, with those that wait for
// others to be over.
const atOnce = 10

// faults makes one fault after the other for the length of the soak, and waits
// until the last is over.
func (s *site) faults(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	timed, cancel := context.WithTimeout(ctx, s.cfg.length)
	defer cancel()
	free := newResources(supply())
	all := newSequence(s.cfg.seed, kinds(s.disk))
	places := make(chan struct{}, atOnce)
	for timed.Err() == nil {
		f := all.next()
		pause(timed, f.pause)
		select {
		case places <- struct{}{}:
		case <-timed.Done():
			return
		}
		running.Go(func() {
			defer func() { <-places }()
			h, err := free.take(timed, f.kind.needs(f)...)
			if err != nil {
				return // the time is over
			}
			defer h.end()
			s.make(ctx, f, h)
		})
	}
}

// make makes one fault. It ends it also where the soak's time is over.
func (s *site) make(ctx context.Context, f fault, h *hold) {
	s.mu.Lock()
	s.made[f.kind.name]++
	s.mu.Unlock()
	what := f.describe()
	s.logf("#%d %s", f.number, what)
	began := time.Now()
	err := s.alive(f)
	if err == nil {
		err = f.kind.do(ctx, s, f, h)
	}
	took := time.Since(began)
	switch {
	case ctx.Err() != nil: // all is ended
	case err != nil:
		s.wrong("#%d %s: after %.1f s: %v", f.number, what, took.Seconds(), err)
	default:
		s.logf("#%d over after %.1f s", f.number, took.Seconds())
	}
}

// describe says what the fault is of, as far as it matters to its kind.
func (f fault) describe() string {
	words := []string{f.kind.name}
	if f.kind.most > 0 {
		words = append(words, fmt.Sprintf("%.1f s", f.length.Seconds()))
	}
	for _, n := range f.kind.needs(f) {
		if n != blind && !strings.HasPrefix(n, "out/") {
			words = append(words, n)
		}
	}
	return strings.Join(words, ", ")
}

// alive reports whether what the fault is of has not ended by itself, which
// the fault would hide.
func (s *site) alive(f fault) error {
	for _, n := range f.kind.needs(f) {
		var p *lab.Process
		switch n {
		case nodeOf(f):
			p = s.node(f).Process
		case sidecarOf(f.lb):
			p = s.lbs[f.lb].Sidecar
		case haproxyOf(f.lb):
			p = s.lbs[f.lb].HAProxy
		case consul:
			p = s.consul.Process
		default:
			continue
		}
		if !p.Running() {
			return fmt.Errorf("%s has ended by itself, exit code %d:\n%s", p.Name, p.ExitCode(), p.Tail(20))
		}
	}
	return nil
}
