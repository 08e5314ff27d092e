package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// screen writes what a person follows: lines that stay, and on a terminal one
// line at the bottom that is drawn again.
type screen struct {
	mu      sync.Mutex
	out     io.Writer
	redraw  bool
	started time.Time
	bottom  string
}

func newScreen(f *os.File) *screen {
	return &screen{out: f, redraw: term.IsTerminal(int(f.Fd())), started: time.Now()}
}

// act begins a part of the demo.
func (s *screen) act(format string, args ...any) {
	s.say("")
	s.say("== %5.1fs  %s", time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}

func (s *screen) say(format string, args ...any) {
	s.print([]byte(fmt.Sprintf(format, args...) + "\n"))
}

// Write takes the lab's own lines.
func (s *screen) Write(line []byte) (int, error) {
	s.print(append([]byte("   "), line...))
	return len(line), nil
}

func (s *screen) print(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b bytes.Buffer
	if s.redraw && s.bottom != "" {
		b.WriteString("\r\x1b[K")
	}
	b.Write(text)
	if s.redraw {
		b.WriteString(s.bottom)
	}
	_, _ = s.out.Write(b.Bytes()) // a terminal that is gone stops no demo
}

// clear takes the bottom line away.
func (s *screen) clear() {
	s.mu.Lock()
	s.bottom = ""
	s.mu.Unlock()
	if s.redraw {
		s.print([]byte("\r\x1b[K"))
	}
}

// watch shows the status once a second until the context ends. Where nothing
// can be drawn again, every fifth is a line.
func (s *screen) watch(ctx context.Context, status func(context.Context) string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			s.clear()
			return
		case <-tick.C:
		}
		text := status(ctx)
		switch {
		case text == "" || ctx.Err() != nil:
		case s.redraw:
			s.mu.Lock()
			s.bottom = text
			s.mu.Unlock()
			s.print([]byte("\r\x1b[K"))
		case n%5 == 0:
			s.say("   %s", text)
		}
	}
}

// status is the clients' last words added up, with what HAProxy does with each
// node.
func (s *stage) status(ctx context.Context) string {
	var requests, failed uint64
	for _, c := range s.clients {
		p := c.Progress()
		requests += p.Requests
		failed += p.Failed
	}
	state, err := s.lb0.State(ctx)
	if err != nil {
		return ""
	}
	var nodes bytes.Buffer
	for _, i := range state.Instances(service) {
		name := i.ID
		if name == "" {
			name = i.Server
		}
		fmt.Fprintf(&nodes, "  %s %s %s", name, i.Version, i.Phase)
	}
	return fmt.Sprintf("%d requests, %d failed |%s", requests, failed, nodes.String())
}
