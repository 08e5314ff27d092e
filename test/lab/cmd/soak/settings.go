package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

func settingsKinds() []kind {
	needs := func(f fault) []string { return []string{settingsOf(f.lb), sidecarOf(f.lb)} }
	return []kind{
		{"service added or removed", 0, 0, needs, serviceToggled},
		{"template that HAProxy rejects", time.Second, 6 * time.Second, needs, templateRejected},
		{"template that does not parse", time.Second, 6 * time.Second, needs, templateBroken},
	}
}

// extra is a service that comes and goes.
const extra = "extra"

func serviceToggled(ctx context.Context, s *site, f fault, h *hold) error {
	lb := s.lbs[f.lb]
	lb.extra = !lb.extra
	if err := errors.Join(lb.setServices(), lb.Reread()); err != nil {
		return err
	}
	h.release(sidecarOf(f.lb)) // the reload is to come all the same
	return lab.Until(ctx, mendLimit, fmt.Sprintf("%s has %s: %t", lb.Name, extra, lb.extra), func() error {
		out, err := lb.Runtime(ctx, "show servers state "+extra)
		if err == nil && strings.Contains(out, "Can't find backend") == lb.extra {
			err = errors.New("not yet")
		}
		return err
	})
}

// templateRejected lets the sidecar have faults of its own meanwhile.
func templateRejected(ctx context.Context, s *site, f fault, h *hold) error {
	lb := s.lbs[f.lb]
	mend, err := lb.breakTemplate("\nlisten broken\n    bogus keyword\n")
	if err != nil {
		return err
	}
	h.release(sidecarOf(f.lb))
	pause(ctx, f.length)
	if err := errors.Join(h.more(ctx, sidecarOf(f.lb)), mend()); err != nil {
		return err
	}
	return lb.fileCurrent(ctx)
}

// templateBroken keeps the sidecar: one that is started with it ends.
func templateBroken(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	mend, err := lb.breakTemplate("\n{{if}}\n")
	if err != nil {
		return err
	}
	pause(ctx, f.length)
	if err := mend(); err != nil {
		return err
	}
	return lb.fileCurrent(ctx)
}

// breakTemplate adds something to the template, and gives what takes it away.
func (lb *balancer) breakTemplate(text string) (mend func() error, err error) {
	good, err := os.ReadFile(lb.template)
	if err != nil {
		return nil, err
	}
	write := func(content []byte) error {
		return errors.Join(os.WriteFile(lb.template, content, 0o644), lb.Reread())
	}
	return func() error { return write(good) }, write(append(slices.Clip(good), text...))
}

// fileCurrent waits until the sidecar says that haproxy.cfg holds what HAProxy
// runs. A reload by hand must not come before.
func (lb *balancer) fileCurrent(ctx context.Context) error {
	return lab.Until(ctx, mendLimit, lb.Name+"'s file is current", func() error {
		st, err := lb.State(ctx)
		if err == nil && (!st.File.Current || st.File.Error != "" || st.Reloads.Pending != "") {
			err = fmt.Errorf("%+v, %+v", st.File, st.Reloads)
		}
		return err
	})
}
