//go:build !race

// The race detector makes stacks larger.

package consul

import (
	"context"
	"net"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
)

// A large fleet has as many watches as services, and nearly all of them only wait. One
// that has ever needed more than 4 KiB of stack keeps 8.
func TestWatches_ThatWait_TakeSmallStacks(t *testing.T) {
	const watches, most = 400, 7 << 10 // bytes for each, with what stacks of that size leave free
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := newClient(Options{Address: l.Addr().String(), Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	before := stackBytes()
	var all sync.WaitGroup
	for range watches {
		w := &watch{service: Service{Name: "web", Backend: "web"}, source: &Source{client: c}, decoder: newDecoder(nil), cancel: func() {}}
		all.Go(func() { w.run(ctx) })
	}
	for range watches { // no query is answered
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	for strings.Contains(stacks(), "consul.aside(") {
		runtime.Gosched()
	}
	if each := (stackBytes() - before) / watches; each > most {
		t.Errorf("a watch that waits has %d bytes of stack, want %d at most", each, most)
	}
	cancel()
	all.Wait()
	_ = l.Close()
}

// stackBytes is what goroutines' stacks take after a collection, which frees those that
// are not used.
func stackBytes() int64 {
	runtime.GC()
	runtime.GC()
	s := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}
