package consul

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// transport sends a GET, and gives its answer within bounds.
type transport interface {
	query(req *http.Request, within bounds) (*http.Response, error)
	CloseIdleConnections()
}

// bounds are those of one query.
type bounds struct {
	limit time.Duration // for the whole answer
	asOf  time.Time     // no connection may have it that was made later; zero: any may

	until time.Time // plainTransport's own: when the limit ends
}

// late is the cause of a query that took too long.
func (b bounds) late() error { return fmt.Errorf("no answer within %v", b.limit) }

// plainTransport is the one for queries over HTTP/1.1 without TLS. There one
// that blocks has a connection to itself, so a fleet has as many as services, and
// nearly all of them only wait. net/http's Transport has two goroutines and two
// buffers for each; this one has the connection, and the goroutine that asks.
//
// As net/http's, it sends a request once more that a kept connection has lost before
// the answer began. It does so on a new connection always.
type plainTransport struct {
	dial    func(ctx context.Context) (net.Conn, error)
	gunzips bool // asks for compressed answers

	mu   sync.Mutex
	idle []*keptConn // the one that was used last is the last
}

// keptConn is a connection that serves one request after another.
type keptConn struct {
	net.Conn
	first [1]byte // of an answer
	since time.Time
}

// maxHead bounds the status line and the headers of an answer, in bytes.
const maxHead = 64 << 10

// query bounds a query by a deadline of its connection: a context for it would take more
// memory than all else of a query that waits.
func (t *plainTransport) query(req *http.Request, within bounds) (*http.Response, error) {
	now := time.Now()
	within.until = now.Add(within.limit)
	c := t.take(now)
	for {
		isKept := c != nil
		resp, isLost, err := t.try(req, c, within)
		if !isKept || !isLost || req.Context().Err() != nil || within.isOver() {
			return resp, err
		}
		c = nil
	}
}

// try sends a request on a connection, or on a new one for nil. isLost reports that it
// failed before any of an answer came.
func (t *plainTransport) try(req *http.Request, c *keptConn, within bounds) (resp *http.Response, isLost bool, err error) {
	ctx := req.Context()
	aside(func() { c, err = t.send(ctx, req, c, within.asOf) })
	if c == nil {
		return nil, false, err
	}
	unsent, until := err, within.until
	if unsent != nil { // an agent that refuses a connection answers, and closes it
		until = time.Now().Add(refusalTime)
	}
	_ = c.SetReadDeadline(until) // where that fails, so does the read
	// A deadline of the past ends every read and write at once.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	if _, err = c.Read(c.first[:]); err == nil {
		aside(func() { resp, err = t.read(req, c, within, stop) }) //nolint:bodyclose // the caller does
	} else if isLost = true; unsent != nil {
		err = unsent
	}
	if err != nil {
		stop()
		_ = c.Close()
		return nil, isLost, within.named(err)
	}
	return resp, false, nil
}

func (b bounds) isOver() bool { return !time.Now().Before(b.until) }

// named returns the error of a read, which after the limit's end says little: it may have
// ended within a line.
func (b bounds) named(err error) error {
	if b.isOver() {
		return b.late()
	}
	return err
}

// refusalTime is how long an answer may take to a request that could not be sent whole.
const refusalTime = time.Second

// send sends a request. Without a connection the error is that there is none; with
// one, that the request is not on it whole.
func (t *plainTransport) send(ctx context.Context, req *http.Request, c *keptConn, asOf time.Time) (*keptConn, error) {
	if c == nil {
		plain, err := t.dial(ctx)
		if err != nil {
			return nil, err
		}
		c = &keptConn{Conn: plain}
	}
	if !asOf.IsZero() && madeAfter(c.Conn, asOf) {
		_ = c.Close()
		return nil, errYounger
	}
	if ctx.Err() != nil {
		_ = c.Close() // the first error tells more
		return nil, context.Cause(ctx)
	}
	if t.gunzips {
		req = req.Clone(ctx)
		req.Header.Set("Accept-Encoding", "gzip")
	}
	var head bytes.Buffer
	err := req.Write(&head)
	if err == nil {
		err = c.SetWriteDeadline(time.Now().Add(dialTimeout))
	}
	if err == nil {
		_, err = c.Write(head.Bytes())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("request not taken within %v", dialTimeout)
	}
	return c, err
}

// read reads the head of an answer of which the first byte is there.
func (t *plainTransport) read(req *http.Request, c *keptConn, within bounds, stop func() bool) (*http.Response, error) {
	in := &limited{r: io.MultiReader(bytes.NewReader(c.first[:]), c), left: maxHead}
	buffer := buffers.Get().(*bufio.Reader)
	buffer.Reset(in)
	resp, err := http.ReadResponse(buffer, req)
	for err == nil && resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
		resp, err = http.ReadResponse(buffer, req) // that was an interim one, of a proxy
	}
	if err != nil {
		buffers.Put(buffer)
		if in.left <= 0 {
			err = errLongHead
		}
		return nil, err
	}
	in.left = -1
	b := &body{plain: resp.Body, buffer: buffer, within: within, stop: stop, done: func(isWhole bool) {
		if !isWhole || resp.Close || resp.StatusCode == http.StatusSwitchingProtocols || c.SetDeadline(time.Time{}) != nil {
			_ = c.Close()
			return
		}
		t.keep(c, time.Now())
	}}
	if resp.Body = b; t.gunzips && resp.Header.Get("Content-Encoding") == "gzip" {
		resp.Body = &unzipped{body: b}
	}
	return resp, nil
}

var errLongHead = errors.New("answer's headers too long")

// buffers are what answers are read by.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// limited reads as much as is left; below 0: without a limit.
type limited struct {
	r    io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, errLongHead
	}
	if l.left > 0 {
		p = p[:min(len(p), l.left)]
	}
	n, err := l.r.Read(p)
	if l.left > 0 {
		l.left -= n
	}
	return n, err
}

// body is an answer's. It lets the connection go at its end.
type body struct {
	plain  io.ReadCloser
	buffer *bufio.Reader // nil: it has ended
	within bounds
	stop   func() bool
	done   func(isWhole bool)
}

func (b *body) Read(p []byte) (int, error) {
	if b.buffer == nil {
		return 0, io.EOF
	}
	n, err := b.plain.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.end(b.buffer.Buffered() == 0)
	case err != nil:
		err = b.within.named(err)
	}
	return n, err
}

// Close returns the connection up if the answer was not read to its end.
func (b *body) Close() error {
	if b.buffer != nil {
		b.end(b.plain == http.NoBody && b.buffer.Buffered() == 0)
	}
	return nil
}

func (b *body) end(isWhole bool) {
	buffers.Put(b.buffer)
	b.buffer = nil
	b.done(b.stop() && isWhole)
}

// unzipped is a compressed body.
type unzipped struct {
	body *body
	zip  *gzip.Reader
	err  error
}

func (u *unzipped) Read(p []byte) (int, error) {
	if u.zip == nil && u.err == nil {
		u.zip, u.err = gzip.NewReader(u.body)
	}
	if u.err != nil {
		return 0, u.err
	}
	return u.zip.Read(p)
}

func (u *unzipped) Close() error { return u.body.Close() }

// take returns the connection that was used last, or nil. One that has been idle for
// long may be gone: a firewall between forgets it.
func (t *plainTransport) take(now time.Time) *keptConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(now)
	if len(t.idle) == 0 {
		return nil
	}
	last := len(t.idle) - 1
	c := t.idle[last]
	t.idle[last], t.idle = nil, t.idle[:last]
	return c
}

func (t *plainTransport) keep(c *keptConn, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(now)
	c.since = now
	t.idle = append(t.idle, c)
}

// prune closes the connections that have been idle for too long: the first ones.
func (t *plainTransport) prune(now time.Time) {
	old := 0
	for old < len(t.idle) && now.Sub(t.idle[old].since) >= idleTimeout {
		_ = t.idle[old].Close()
		old++
	}
	t.idle = t.idle[:copy(t.idle, t.idle[old:])]
}

// CloseIdleConnections closes those that no request has.
func (t *plainTransport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.idle {
		_ = c.Close()
	}
	t.idle = nil
}
