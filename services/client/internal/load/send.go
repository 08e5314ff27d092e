package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
)

const (
	maxAnswer  = 64 << 10 // bytes of a body that are looked at
	maxDetail  = 300      // bytes of a failure's detail
	maxSnippet = 120      // bytes of a body that are shown
)

// newTransport returns a transport for HTTP/1.1 that follows no proxy and no
// environment. One that keeps its connections is for a single target.
func newTransport(c Config, keep bool) *http.Transport {
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:         dial,
		Protocols:           &protocols,
		DisableKeepAlives:   !keep,
		DisableCompression:  true,
		MaxIdleConnsPerHost: c.MaxInFlight,
		IdleConnTimeout:     c.IdleTimeout,
	}
}

// outcome is what became of a request: an answer from a server, or a cause of
// failure. A failure may have both.
type outcome struct {
	instance, version string
	cause             Cause // "" is success
	detail            string
}

func failed(c Cause, format string, args ...any) outcome {
	detail := strings.ToValidUTF8(fmt.Sprintf(format, args...), "?")
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "") + "…"
	}
	return outcome{cause: c, detail: detail}
}

// do sends the request and judges the answer.
func (l *Load) do(ctx context.Context, r request) outcome {
	ctx, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	var way connection
	response, err := l.send(ctx, r, &way)
	if err != nil {
		return l.broken(ctx, &way, "no answer", err)
	}
	defer func() { _ = response.Body.Close() }() // it has been read, as far as it matters
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	length := int64(len(text))
	if err == nil && !l.config.Echo { // an API node's is never longer
		var rest int64
		rest, err = io.Copy(io.Discard, response.Body)
		length += rest
	}
	switch {
	case !l.config.isExpected(response.StatusCode):
		return failed(Status, "%s: %s", response.Status, snippet(text))
	case err != nil:
		return l.broken(ctx, &way, fmt.Sprintf("the answer broke off after %d bytes", length), err)
	case way.used.Load() > 1:
		return failed(Transport, "net/http has sent it %d times", way.used.Load())
	}
	return l.config.judge(r, response.Header, text)
}

// isExpected reports whether a status is a success.
func (c *Config) isExpected(code int) bool {
	if c.Status == nil {
		return code >= 200 && code <= 299
	}
	return c.Status(code)
}

// connection is what is known of the connection of a request.
type connection struct {
	used   atomic.Int32 // how many the request was given
	reused atomic.Bool  // the last of them had carried another request before
}

// send sends the request once.
//
// net/http's Transport, unasked, sends a request again if the connection that
// it had kept ended before the first byte of an answer. A load balancer that
// drops connections would look perfect. Its documentation says when: the
// request is "idempotent and either has no body or has its Request.GetBody
// defined". So each request gets a body, even if it is empty, and no GetBody. An
// empty body leaves no trace on the wire: the Transport looks for a first byte
// and, since there is none, sends a GET without a body.
//
// The count of connections that a request was given tells, should a later
// version of net/http do otherwise.
func (l *Load) send(ctx context.Context, r request, way *connection) (*http.Response, error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			way.used.Add(1)
			way.reused.Store(info.Reused)
		},
	})
	out, err := http.NewRequestWithContext(ctx, r.method, r.url, struct{ io.Reader }{bytes.NewReader(r.body)})
	if err != nil {
		return nil, err
	}
	out.GetBody = nil
	out.ContentLength = int64(len(r.body))
	out.Header.Set("User-Agent", l.config.UserAgent)
	out.Host = l.config.Host
	if !l.config.Echo {
		out.Header.Set("X-Request-Id", r.id)
	}
	if r.method == http.MethodPost {
		out.Header.Set("Content-Type", "application/octet-stream")
	}
	transport := r.to.kept
	if r.fresh {
		transport = l.fresh
	}
	return transport.RoundTrip(out) // not http.Client: it follows redirects
}

// broken classes the error of a connection.
func (l *Load) broken(ctx context.Context, way *connection, what string, err error) outcome {
	on := "while connecting"
	switch {
	case way.used.Load() == 0:
	case way.reused.Load():
		on = "on a kept connection"
	default:
		on = "on a new connection"
	}
	var network net.Error
	if ctx.Err() != nil || errors.As(err, &network) && network.Timeout() {
		return failed(Timeout, "%s within %s, %s", what, l.config.Timeout, on)
	}
	return failed(Transport, "%s, %s: %v", what, on, err)
}

func snippet(text []byte) string {
	if len(text) > maxSnippet {
		return fmt.Sprintf("%q…", text[:maxSnippet])
	}
	return fmt.Sprintf("%q", text)
}
