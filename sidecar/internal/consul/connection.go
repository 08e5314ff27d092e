package consul

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// An index means something only to the Consul that it came from. One that has
// lost its catalog starts its index again, and lets a query with the old one
// block for its whole wait. Normally the broken connection tells; but net/http
// sends a GET again, unasked, when a connection that it reused breaks before
// the answer (net/http, Transport: "automatically retries"), and takes any that
// is idle. So a connection knows when it was made, and one that is younger than
// an index does not carry it: one that is older, and lives, leads to the
// process that gave the index.

// errYounger is the cause of a blocking query that was given up for that. It is
// no failure: ask from the beginning.
var errYounger = errors.New("connection newer than the index: the catalog may be another one")

// datedConn is a connection that knows since when there is one.
type datedConn struct {
	net.Conn
	made time.Time
}

type dial func(ctx context.Context, network, address string) (net.Conn, error)

func dated(d dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &datedConn{Conn: c, made: time.Now()}, nil
	}
}

// refuseYounger gives up a query, by errYounger, when it gets a connection that
// was made after asOf.
func refuseYounger(ctx context.Context, asOf time.Time) (context.Context, context.CancelCauseFunc) {
	ctx, giveUp := context.WithCancelCause(ctx)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) {
			if madeAfter(got.Conn, asOf) {
				giveUp(errYounger)
			}
		},
	}), giveUp
}

func madeAfter(c net.Conn, asOf time.Time) bool {
	if secured, ok := c.(interface{ NetConn() net.Conn }); ok { // as *tls.Conn
		c = secured.NetConn()
	}
	d, ok := c.(*datedConn)
	return ok && d.made.After(asOf)
}

// securedTransport is the one for queries over TLS. They share connections, so a query is
// bounded by its context.
type securedTransport struct{ *http.Transport }

func (t securedTransport) query(req *http.Request, within bounds) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), within.limit, within.late())
	ended := cancel
	if !within.asOf.IsZero() {
		var giveUp context.CancelCauseFunc
		ctx, giveUp = refuseYounger(ctx, within.asOf)
		ended = func() { giveUp(nil); cancel() }
	}
	resp, err := t.RoundTrip(req.WithContext(ctx))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		ended()
		return nil, err
	}
	resp.Body = &boundBody{resp.Body, ctx, ended}
	return resp, nil
}

// boundBody is the body of an answer that a context bounds.
type boundBody struct {
	io.ReadCloser
	ctx   context.Context //nolint:containedctx // of the query that it answers
	ended func()
}

func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *boundBody) Close() error {
	defer b.ended()
	return b.ReadCloser.Close()
}
