package haproxytest

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"

	"github.com/pointsman/pointsman/test/lab"
)

// Node is a small HTTP server that HAProxy can send requests to. "/" answers
// its name; "/hold" answers it once Release is called.
type Node struct {
	Name    string
	server  *httptest.Server
	release chan struct{}
	once    sync.Once
}

// StartNode starts a Node on a free port of 127.0.0.1. The test's end stops it.
func StartNode(tb testing.TB, name string) *Node {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		tb.Fatalf("node %s: %v", name, err)
	}
	n := &Node{Name: name, release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-n.release:
		case <-r.Context().Done():
		}
		n.answer(w)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { n.answer(w) })
	n.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}} //nolint:gosec // a test's
	n.server.Start()
	tb.Cleanup(n.Stop)
	return n
}

func (n *Node) answer(w http.ResponseWriter) {
	_, _ = fmt.Fprintln(w, n.Name) // the client may be gone
}

// Addr is where it listens.
func (n *Node) Addr() netip.AddrPort {
	return n.server.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// Release lets all requests to /hold go, the later ones too.
func (n *Node) Release() { n.once.Do(func() { close(n.release) }) }

// Stop ends it. It may be called more than once.
func (n *Node) Stop() {
	n.Release()
	n.server.CloseClientConnections()
	n.server.Close()
}

// FreeAddr returns an address of 127.0.0.1 on which nothing listens, to one test only.
func FreeAddr(tb testing.TB) netip.AddrPort {
	tb.Helper()
	port, err := lab.FreePort()
	if err != nil {
		tb.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
}
