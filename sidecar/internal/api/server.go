package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// The bounds of every request and connection.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 16 << 10
)

// stopTimeout is how long requests may finish once the server is to stop.
const stopTimeout = 3 * time.Second

// Server is the sidecar's HTTP server.
type Server struct {
	options Options
	gate    *gate
	paths   []string
	handler http.Handler

	addr  net.Addr      // set before bound is closed
	bound chan struct{} // closed once it listens
}

// New checks the options. It starts nothing and listens to nothing.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	gate, err := newGate(o.Access, o.Logger)
	if err != nil {
		return nil, err
	}
	paths, err := routes(o)
	if err != nil {
		return nil, err
	}
	return &Server{options: o, gate: gate, paths: slices.Sorted(maps.Keys(paths)), handler: gate.guard(dispatch(paths)), bound: make(chan struct{})}, nil
}

// Paths returns what the server answers, sorted; a star stands for the rest of a path.
func (s *Server) Paths() []string { return s.paths }

// Bound is closed once the server listens.
func (s *Server) Bound() <-chan struct{} { return s.bound }

// Addr returns the address that the server listens on, or nil before Bound is
// closed.
func (s *Server) Addr() net.Addr {
	select {
	case <-s.bound:
		return s.addr
	default:
		return nil
	}
}

// Run listens and serves until ctx ends; it may be called once. It returns nil
// after an orderly end, at the latest some seconds after ctx has ended, or why
// it cannot listen or serve.
func (s *Server) Run(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.options.Address)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	return s.serve(ctx, listener)
}

// serve is Run on a listener, which it closes.
func (s *Server) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          s.options.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       markSocket,
	}
	s.addr = listener.Addr()
	close(s.bound)
	s.options.Logger.Info("API listening", "address", s.addr)

	var socket sync.WaitGroup
	if s.options.Socket != "" {
		ctx, cancel := context.WithCancel(ctx)
		socket.Go(func() { s.serveSocket(ctx, server) })
		defer func() {
			cancel()
			_ = server.Close() // it has stopped, or failed
			socket.Wait()
		}()
	}

	served := make(chan error, 1)
	go func() { served <- server.Serve(s.gate.listener(newLimitedListener(listener, s.options))) }()
	select {
	case err := <-served: // never nil
		return fmt.Errorf("api: serve: %w", err)
	case <-ctx.Done():
	}
	err := stop(ctx, server)
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("api: serve: %w", ended))
	}
	return err
}

// stop lets the requests finish that are under way, and then ends those that
// have not.
func stop(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("api: stop: %w", err)
	}
	return nil
}
