package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// delayed is a proxy that shows a change after a while.
type delayed struct {
	mu     sync.Mutex
	values map[string]int
	after  time.Duration
	drop   int // the number of changes that fail
}

func (d *delayed) change(_ context.Context, i instance, v int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drop > 0 {
		d.drop--
		return errors.New("not taken")
	}
	time.AfterFunc(d.after, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.values[i.server] = v
	})
	return nil
}

func (d *delayed) look(servers []string) (values []int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range servers {
		values = append(values, d.values[s])
	}
	return values, nil
}

func TestMeasure_DelayedProxy_EachChangeTakesTheDelay(t *testing.T) {
	const delay = 20 * time.Millisecond
	proxy := &delayed{values: map[string]int{}, after: delay}
	s := &subject{
		name: "delayed", targets: []instance{{server: "a"}, {server: "b"}},
		change: proxy.change, look: proxy.look, next: nextWeight,
	}
	// Faster than the proxy follows, so that targets are waited for.
	took, err := s.measure(t.Context(), 12, time.Millisecond)
	if err != nil || len(took) != 12 {
		t.Fatalf("got %d changes, %v; want 12", len(took), err)
	}
	for _, d := range took {
		if d < delay {
			t.Errorf("got %s for a change, want at least %s", d, delay)
		}
	}
	if got := s.unseen(); len(got) != 0 {
		t.Errorf("left over: %v", got)
	}
}

func TestMeasure_ConsulRefuses_IsAnError(t *testing.T) {
	proxy := &delayed{values: map[string]int{}, drop: 1}
	s := &subject{name: "delayed", targets: []instance{{server: "a"}}, change: proxy.change, look: proxy.look, next: nextWeight}
	if _, err := s.measure(t.Context(), 1, time.Millisecond); err == nil || !strings.Contains(err.Error(), "delayed: not taken") {
		t.Errorf("got %v, want the error of the change", err)
	}
}

func TestSeen_ChangeThatNeverShows_IsLost(t *testing.T) {
	s := &subject{targets: []instance{{server: "a"}}, pending: map[int]pending{0: {value: 7, sent: time.Now().Add(-lostAfter - time.Second)}}}
	if err := s.seen([]int{0}, []int{3}); err == nil || !strings.Contains(err.Error(), "change lost: a has 3, not 7") {
		t.Errorf("got %v, want that the change is lost", err)
	}
}

// The prompt is what ends an answer; a ">" inside does not.
func TestSocket_AnswerWithAngleBracket_IsReadToThePrompt(t *testing.T) {
	dir, err := os.MkdirTemp("", "pm") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "s")
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			answer := map[string]string{"prompt": "\n> ", "get weight b/s": "7 (initial 1)\n\n> ", "show": "a > b\n>c\n\n> "}[lines.Text()]
			_, _ = io.WriteString(conn, answer)
		}
	}()
	s, err := openSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if got, err := s.weights([]string{"b/s", "b/s"}); err != nil || len(got) != 2 || got[1] != 7 {
		t.Errorf("got %v %v, want 7 twice", got, err)
	}
	if got, err := s.ask("show"); err != nil || got != "a > b\n>c\n\n" {
		t.Errorf("got %q %v, want the whole answer", got, err)
	}
}

func TestSolve_ThreePoints_FormulaFitsThem(t *testing.T) {
	want := consulFormula{change: 2, follower: 0.5, instance: 0.03}
	points := [3]point(consulPoints[:3])
	var costs [3]float64
	for i, p := range points {
		costs[i] = want.cost(p)
	}
	got := solve(points, costs)
	for i, p := range points {
		if d := got.cost(p) - costs[i]; d > 1e-6 || d < -1e-6 {
			t.Errorf("%v: got %g, want %g", p, got.cost(p), costs[i])
		}
	}
}
