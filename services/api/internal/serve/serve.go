// Package serve runs a node: it serves HTTP, has the node registered once it
// does, and stops it in the order that loses no request.
//
// Its invariant is that order. On the way in: serve, then register. On the way
// out:
//
//  1. The node hears that it leaves: each answer closes its connection from
//     here on, and says so (`Connection: close`).
//  2. The registration is marked as leaving, with its check still green and the
//     node still accepting, until the load balancers have drained it.
//  3. Where a load balancer has not reported the node as drained, linger: requests that come on connections that were open before are
//     still answered, until no connection is left or the time is over.
//  4. The listener is closed, and requests in flight are finished.
//  5. The node is deregistered.
//
// Why step 3 and not http.Server.Shutdown or SetKeepAlivesEnabled(false) at
// once: both close idle connections without a word, and a load balancer may
// send a request on one at the same instant. HAProxy then sees the connection
// end before an answer; it may repeat a GET elsewhere, never a POST. HTTP/1.1
// gives a server no safe way to close an idle connection but to announce it in
// an answer, or to have the other side close it. HAProxy does: its idle
// connections to a server that takes no new ones go by `pool-purge-delay`, half
// of them each time. A new connection that is refused, in contrast, is always
// safe to repeat.
//
// So this loses nothing behind a load balancer that has drained the server:
// no request comes any more, and step 4 closes connections that no request uses.
// Behind one that has not, only the race of step 4 is left, on connections
// that stayed idle through the whole of steps 1 to 3, and on those that the
// kernel took but we had not yet: it resets them when the listener is closed.
//
// The cli of services/api uses it.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Node is the handler that is served.
type Node interface {
	http.Handler
	// Leave makes every answer from now on close its connection.
	Leave()
}

// Registration is the node's entry in the catalog.
type Registration interface {
	// Register enters the node. It tries until it succeeds, the context is
	// done, or trying again can't help.
	Register(ctx context.Context) error
	// Leave marks the node as leaving, waits, calls stop, which ends the
	// serving, and deregisters.
	Leave(ctx context.Context, stop func(context.Context) error) error
}

// Config is what a Server is made of.
type Config struct {
	Listener     net.Listener // the Server closes it
	Node         Node
	Registration Registration  // nil: the node isn't registered
	Linger       time.Duration // the longest step 3, at least 0
	Drained      func() bool   // whether every load balancer has said so; nil: none has
	StopTimeout  time.Duration // the longest steps 1 to 4 together, above 0; the Registration bounds step 5
	Logger       *zap.Logger   // nil logs nowhere
}

// Server serves one node.
type Server struct {
	config      Config
	log         *zap.Logger
	http        *http.Server
	connections *connections
}

// New checks the configuration and starts nothing.
func New(c Config) (*Server, error) {
	switch {
	case c.Listener == nil:
		return nil, errors.New("serve: no listener")
	case c.Node == nil:
		return nil, errors.New("serve: no node")
	case c.Linger < 0:
		return nil, fmt.Errorf("serve: linger %s: must not be negative", c.Linger)
	case c.StopTimeout <= 0:
		return nil, fmt.Errorf("serve: stop timeout %s: must be above 0", c.StopTimeout)
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Drained == nil {
		c.Drained = func() bool { return false }
	}
	s := &Server{config: c, log: c.Logger, connections: newConnections()}
	s.http = &http.Server{
		Handler: c.Node,
		// There is no ReadTimeout and no WriteTimeout: they would cut slow
		// answers and streams. The node bounds each read and write itself.
		ReadHeaderTimeout: silence,
		MaxHeaderBytes:    16 << 10,
		// Far above the time after which HAProxy closes idle connections to a
		// server (pool-purge-delay, 5 s by default): the side that sends the
		// requests must be the one that closes. Were we first, we could close
		// while a request is on its way. (docs/haproxy-facts.md, fact 31: 8 % lost.)
		IdleTimeout: silence,
		ConnState:   s.connections.track,
		ErrorLog:    zap.NewStdLog(c.Logger.Named("http")),
	}
	return s, nil
}

// silence is how long a connection may bring no request: a new one too, whose HAProxy
// may be stopped for some seconds between connecting and sending. HAProxy bounds what
// slow clients do.
const silence = 75 * time.Second

// Run serves until the context is done and then stops. It gives nil after a
// stop that lost nothing that it knows of. An error tells that the listener
// failed, or which step of the stop did; after it, too, nothing runs any more.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.config.Listener) }()
	s.log.Info("serving", zap.Stringer("address", s.config.Listener.Addr()))

	joining, join := context.WithCancel(ctx)
	joined := make(chan struct{})
	go func() { defer close(joined); s.register(joining) }()

	var failed error
	select {
	case <-ctx.Done():
	case err := <-served:
		failed = fmt.Errorf("serve: accept: %w", err)
	}
	join()
	<-joined // a registration that is still under way would undo the leave
	return errors.Join(failed, s.stop(ctx))
}

// register enters the node. A catalog that doesn't take it is no reason not to
// serve: others may know the way here.
func (s *Server) register(ctx context.Context) {
	if s.config.Registration == nil {
		return
	}
	if err := s.config.Registration.Register(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("registration failed, serving unregistered", zap.Error(err))
	}
}
