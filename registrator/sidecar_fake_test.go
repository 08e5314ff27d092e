package registrator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator/contract"
)

// pipes is a network in memory, so that time can be the test's: a socket would
// hold the bubble's clock. Nothing listens where nothing was put.
type pipes struct {
	mu    sync.Mutex
	hosts map[string]http.HandlerFunc // by host:port; nil swallows every connection
	raw   map[string]func(net.Conn)   // instead, with the request read
	dials map[string]int
	serve sync.WaitGroup // the connections that are served
}

func newPipes() *pipes {
	return &pipes{hosts: make(map[string]http.HandlerFunc), raw: make(map[string]func(net.Conn)), dials: make(map[string]int)}
}

func (p *pipes) put(at string, handler http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hosts[at] = handler
}

func (p *pipes) remove(at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.hosts, at)
}

func (p *pipes) dialled(at string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials[at]
}

func (p *pipes) dial(ctx context.Context, _, at string) (net.Conn, error) {
	p.mu.Lock()
	p.dials[at]++
	handler, found := p.hosts[at]
	raw := p.raw[at]
	p.mu.Unlock()
	switch {
	case !found && raw == nil:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errRefused}
	case found && handler == nil:
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	near, far := net.Pipe()
	p.serve.Go(func() { //nolint:contextcheck // ctx is of the dialling
		defer func() { _ = far.Close() }()
		request, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		if raw != nil {
			raw(far)
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, far) // until the asker has gone
			cancel()
		}()
		handler(&reply{to: far, header: make(http.Header)}, request.WithContext(ctx))
	})
	return near, nil
}

// reply writes an answer that ends with its connection.
type reply struct {
	to     net.Conn
	header http.Header
	begun  bool
}

func (r *reply) Header() http.Header { return r.header }

func (r *reply) WriteHeader(code int) {
	r.begun = true
	_, _ = fmt.Fprintf(r.to, "HTTP/1.1 %d %s\r\nConnection: close\r\n", code, http.StatusText(code))
	_ = r.header.Write(r.to)
	_, _ = io.WriteString(r.to, "\r\n")
}

func (r *reply) Write(p []byte) (int, error) {
	if !r.begun {
		r.WriteHeader(http.StatusOK)
	}
	return r.to.Write(p)
}

// sidecarFake answers as a sidecar does.
type sidecarFake struct {
	name string

	mu       sync.Mutex
	sessions int
	index    uint64 // what it knows of Consul
	drained  bool
	unrouted bool
	token    string
	busy     int // how many times it answers 503
	asked    []string
	newer    chan struct{}
}

func newSidecar(name string) *sidecarFake {
	return &sidecarFake{name: name, index: 1 << 60, newer: make(chan struct{})}
}

func (s *sidecarFake) becomes(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.newer)
	s.newer = make(chan struct{})
}

// drainsIn makes it say drained after a time, and how many sessions are on it before.
func (s *sidecarFake) drainsIn(d time.Duration, sessions int) *sidecarFake {
	s.sessions = sessions
	time.AfterFunc(d, func() { s.becomes(func() { s.drained, s.sessions = true, 0 }) })
	return s
}

func (s *sidecarFake) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *sidecarFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wait, err := time.ParseDuration(r.FormValue("wait"))
	index, errIndex := strconv.ParseUint(r.FormValue("index"), 10, 64)
	rest, found := strings.CutPrefix(r.URL.Path, "/api/v1/drain/")
	service, instance, cut := strings.Cut(rest, "/")
	over := time.NewTimer(wait)
	defer over.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.RequestURI)
	switch {
	case s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token:
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
		return
	case err != nil || errIndex != nil || !found || !cut || r.Method != http.MethodGet:
		w.WriteHeader(http.StatusBadRequest)
		return
	case s.busy > 0:
		s.busy--
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	says := func() bool { return s.drained && s.index >= index }
	for waiting := true; waiting && !says() && !s.unrouted; {
		newer := s.newer
		s.mu.Unlock()
		select {
		case <-newer:
		case <-over.C:
			waiting = false
		case <-r.Context().Done():
			waiting = false
		}
		s.mu.Lock()
	}
	body := map[string]any{"load_balancer": s.name}
	if s.unrouted {
		w.WriteHeader(http.StatusNotFound)
	} else {
		body["service"], body["instance"], body["drained"], body["sessions"], body["index"] = service, instance, says(), s.sessions, s.index
	}
	_ = json.NewEncoder(w).Encode(body)
}

// entry is a sidecar's registration.
func entry(id, at string, said contract.Sidecar) *api.ServiceEntry {
	host, port, _ := net.SplitHostPort(at)
	n, _ := strconv.Atoi(port)
	return &api.ServiceEntry{
		Node:    &api.Node{Node: "n", Address: "192.0.2.9"},
		Service: &api.AgentService{ID: id, Service: contract.SidecarService, Address: host, Port: n, Meta: said.Format()},
	}
}

// balancer is the registration of one that routes the service "api".
func balancer(name, at string) *api.ServiceEntry {
	return entry("pointsman-sidecar-"+name, at, contract.Sidecar{Balancer: name, Services: []string{"api"}})
}
