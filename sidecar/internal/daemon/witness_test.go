package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/test/certtest"
)

// witness is a server that takes connections with and without TLS, with and
// without a PROXY header, in HTTP/1 and HTTP/2, and notes how they came.
type witness struct {
	listener net.Listener
	stop     func() // as a node does that has ended
	tls      *tls.Config
	takes    func(secure bool, proxy string) bool // nil: all connections

	checkTakes atomic.Int64  // how long a check waits for its answer, in nanoseconds
	release    chan struct{} // ends the requests for /hold

	mu   sync.Mutex
	seen map[string]bool // since the last reset
	hits map[string]int  // by method and path
}

// checkPath is what health checks ask for; all else is traffic.
const checkPath = "/check"

func newWitness(t *testing.T, certs *certtest.Authority) *witness {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{listener: listener, seen: map[string]bool{}, hits: map[string]int{}, release: make(chan struct{}), tls: &tls.Config{
		Certificates: []tls.Certificate{certs.Pair("server")}, ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS10,
	}}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		ErrorLog: hclog.NewNullLogger().StandardLogger(nil), // HTTP/1 and HTTP/2 mixed up, which is tried
		Handler:  w, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, arrivalKey{}, c) },
	}
	go func() { _ = server.Serve(listen(w)) }()
	w.stop = func() { _ = server.Close() }
	t.Cleanup(w.stop)
	return w
}

type arrivalKey struct{}

func (w *witness) addr() netip.AddrPort { return w.listener.Addr().(*net.TCPAddr).AddrPort() }

// reset forgets what was seen.
func (w *witness) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.seen)
}

// arrivals is what was seen, sorted.
func (w *witness) arrivals() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]string, 0, len(w.seen))
	for s := range w.seen {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func (w *witness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	kind := "traffic"
	if r.URL.Path == checkPath {
		kind = "check"
	}
	how := []string{kind, r.Proto}
	c := r.Context().Value(arrivalKey{})
	if secure, is := c.(*tls.Conn); is {
		state := secure.ConnectionState()
		how = append(how, tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite), "sni="+state.ServerName, "alpn="+state.NegotiatedProtocol)
		for _, cert := range state.PeerCertificates {
			how = append(how, "cert="+cert.Subject.CommonName)
		}
		c = secure.NetConn()
	}
	arrival := c.(*witnessConn)
	how = append(how, "from="+arrival.RemoteAddr().(*net.TCPAddr).IP.String(), "proxy="+arrival.proxy)
	if kind == "check" {
		how = append(how, "host="+r.Host, r.URL.RequestURI())
		time.Sleep(time.Duration(w.checkTakes.Load()))
	}
	w.mu.Lock()
	w.seen[strings.Join(how, " ")] = true
	w.hits[r.Method+" "+r.URL.Path]++
	release := w.release
	w.mu.Unlock()
	w.answer(out, r, release)
}

// answer is that of an application with an error, without an answer, or with a slow one.
func (w *witness) answer(out http.ResponseWriter, r *http.Request, release chan struct{}) {
	switch r.URL.Path {
	case "/503":
		out.WriteHeader(http.StatusServiceUnavailable)
	case "/close":
		panic(http.ErrAbortHandler)
	case "/hold":
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	out.Header().Set("Content-Type", "text/plain")
	_, _ = fmt.Fprintf(out, "%s at %s", r.URL.Path, w.addr())
}

// hit counts the requests for a method and path since the start.
func (w *witness) hit(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hits[what]
}

// endHeld ends the requests for /hold that are there.
func (w *witness) endHeld() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.release)
	w.release = make(chan struct{})
}

// witnessListener hands each connection over without its PROXY header, and with
// TLS where it begins so.
type witnessListener struct {
	*witness
	opened chan net.Conn
	ended  chan struct{}
}

func listen(w *witness) *witnessListener {
	l := &witnessListener{witness: w, opened: make(chan net.Conn), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for {
			c, err := w.listener.Accept()
			if err != nil {
				return
			}
			go l.open(c)
		}
	}()
	return l
}

func (l *witnessListener) open(c net.Conn) {
	arrival := &witnessConn{Conn: c}
	secure, err := arrival.open()
	if err != nil || l.takes != nil && !l.takes(secure, arrival.proxy) {
		_ = c.Close() // a check that only connects, or nothing that is taken here
		return
	}
	if check := arrival.answerData(); check != "" {
		l.mu.Lock()
		l.seen["check "+check] = true
		l.mu.Unlock()
		_ = c.Close()
		return
	}
	var opened net.Conn = arrival
	if secure {
		opened = tls.Server(arrival, l.tls)
	}
	select {
	case l.opened <- opened:
	case <-l.ended:
		_ = c.Close()
	}
}

func (l *witnessListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.opened:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *witnessListener) Close() error   { return l.listener.Close() }
func (l *witnessListener) Addr() net.Addr { return l.listener.Addr() }

// witnessConn is a connection behind its PROXY header.
type witnessConn struct {
	net.Conn
	buffered *bufio.Reader
	proxy    string // the version of the header, and its commands and extensions
}

var proxyV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

// open reads the PROXY header, if there is one, and reports whether TLS follows.
func (c *witnessConn) open() (secure bool, err error) {
	c.buffered = bufio.NewReader(c.Conn)
	first, err := c.buffered.Peek(1)
	if err != nil {
		return false, err
	}
	switch first[0] {
	case 'P':
		if word, err := c.buffered.Peek(6); err == nil && string(word) == "PROXY " {
			line, err := c.buffered.ReadString('\n')
			if err != nil {
				return false, err
			}
			c.proxy = "v1 " + strings.Fields(line)[1]
		}
	case '\r':
		head := make([]byte, 16)
		if _, err := io.ReadFull(c.buffered, head); err != nil {
			return false, err
		}
		rest := make([]byte, binary.BigEndian.Uint16(head[14:]))
		if _, err := io.ReadFull(c.buffered, rest); err != nil || !bytes.HasPrefix(head, proxyV2) {
			return false, fmt.Errorf("PROXY v2: %w", err)
		}
		c.proxy = fmt.Sprintf("v2 command=%x extensions=%s", head[12], extensions(head[13], rest))
	}
	first, err = c.buffered.Peek(1)
	return err == nil && first[0] == 0x16, err
}

// answerData answers the check of a data store as one does, and names it; "" if what
// came is none. Redis is asked by a command, PostgreSQL by the start of a session.
func (c *witnessConn) answerData() string {
	first, err := c.buffered.Peek(1)
	switch {
	case err != nil:
	case first[0] == '*':
		_, _ = c.Write([]byte("+PONG\r\n"))
		return "redis"
	case first[0] == 0:
		head, err := c.buffered.Peek(4)
		if err != nil {
			return ""
		}
		start := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(c.buffered, start); err != nil {
			return ""
		}
		_, _ = c.Write([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00"))
		if _, after, found := bytes.Cut(start, []byte("user\x00")); found {
			user, _, _ := bytes.Cut(after, []byte{0})
			return "pgsql user=" + string(user)
		}
	}
	return ""
}

// extensions names the types of what follows the addresses (PROXY protocol,
// section 2.2).
func extensions(family byte, rest []byte) string {
	addresses := map[byte]int{0x11: 12, 0x21: 36}[family]
	var types []string
	for rest = rest[min(addresses, len(rest)):]; len(rest) >= 3; {
		types = append(types, fmt.Sprintf("%02x", rest[0]))
		rest = rest[min(len(rest), 3+int(binary.BigEndian.Uint16(rest[1:3]))):]
	}
	return strings.Join(types, ",")
}

func (c *witnessConn) Read(p []byte) (int, error) { return c.buffered.Read(p) }
