package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/internal/credential"
)

const (
	dialTimeout = 5 * time.Second
	// answerGrace is how long beyond its wait an answer may take: Consul holds a
	// query for up to 7 s while there is no leader (rpc_hold_timeout), and a
	// large answer takes its time.
	answerGrace = 20 * time.Second
	idleTimeout = 90 * time.Second
)

// client asks one agent. It does not use api.Client, which reads the
// environment on its own, pastes service names into paths as they are, takes
// a missing header for a good one and null for an empty list.
type client struct {
	http     *http.Client // for what is written
	queries  transport    // for what is read
	endpoint endpoint
	token    *credential.File[string]
	auth     *url.Userinfo // nil for none
	common   url.Values    // parameters of every query
	wait     time.Duration
	stale    bool // let any server answer
}

// newClient checks the options and reads the TLS files. It returns the options with their
// defaults, too.
func newClient(o Options) (*client, Options, error) {
	o, err := o.check()
	if err != nil {
		return nil, o, err
	}
	at, err := parseEndpoint(o.Address, o.Scheme)
	if err != nil {
		return nil, o, fmt.Errorf("consul: %w", err)
	}
	transport, err := newTransport(o, at)
	if err != nil {
		return nil, o, fmt.Errorf("consul: %w", err)
	}
	c := &client{
		endpoint: at,
		token:    credential.NewToken(o.Token, o.TokenFile),
		common:   url.Values{},
		wait:     o.WaitTime,
		stale:    o.MaxStale > 0,
		http: &http.Client{
			Transport: transport,
			// The token must not follow a redirect to another host; Consul's
			// agent sends none.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.queries = securedTransport{transport}
	if at.base.Scheme != schemeHTTPS {
		c.queries = &plainTransport{gunzips: !at.isNear(), dial: func(ctx context.Context) (net.Conn, error) {
			return transport.DialContext(ctx, "tcp", net.JoinHostPort(at.base.Hostname(), cmp.Or(at.base.Port(), "80")))
		}}
	}
	if o.HTTPAuth != "" {
		user, password, _ := strings.Cut(o.HTTPAuth, ":")
		c.auth = url.UserPassword(user, password)
	}
	for key, value := range map[string]string{"dc": o.Datacenter, "ns": o.Namespace, "partition": o.Partition} {
		if value != "" {
			c.common.Set(key, value)
		}
	}
	return c, o, nil
}

// newTransport makes the connections. Over TLS all queries share a few by
// HTTP/2. Without it each blocked query has one to itself, since Consul's agent
// speaks HTTP/1.1 there: see plainTransport. They are kept between queries, so a
// service costs one connection and no more. The agent takes 200 from one address by
// default (limits.http_max_conns_per_client) and any number on a Unix socket.
func newTransport(o Options, at endpoint) (*http.Transport, error) {
	dialer := &net.Dialer{
		Timeout: dialTimeout,
		// A blocked query says nothing for minutes. These find a host that is
		// gone in half a minute.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	t := &http.Transport{
		DialContext:         dated(dialer.DialContext),
		MaxIdleConnsPerHost: 1 << 20, // bounded by the number of services and by IdleConnTimeout
		IdleConnTimeout:     idleTimeout,
		ForceAttemptHTTP2:   true,
		DisableCompression:  at.isNear(),
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
	if at.socket != "" {
		t.DialContext = dated(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", at.socket)
		})
	}
	if at.base.Scheme != schemeHTTPS {
		return t, nil
	}
	over, err := newSecured(o, t.DialContext)
	if err != nil {
		return nil, err
	}
	t.DialTLSContext = over.connect
	return t, nil
}

func (c *client) close() {
	c.http.CloseIdleConnections()
	c.queries.CloseIdleConnections()
}

// answer is all that Consul said to one query.
type answer struct {
	meta
	all      []*registration // sorted by compare
	received time.Time
}

// ask sends one query for a service and reads the whole answer. The query is
// given up when ctx ends, or when it takes longer than its wait and some time.
func (c *client) ask(ctx context.Context, s *Service, from cursor, d *decoder) (a answer, err error) {
	a.meta, err = c.get(ctx, s.query(), from, func(body io.Reader) (err error) {
		a.all, err = d.decode(body, maxBody)
		return err
	})
	if err != nil {
		return answer{}, err
	}
	a.received = time.Now()
	return a, nil
}

// query is what is asked, without where from.
type query struct {
	path, escaped string
	params        url.Values
	mayLack       bool // 404 says that there is nothing, and is not read
}

func (s *Service) query() *query {
	const path = "/v1/health/service/"
	q := &query{path: path + s.Name, escaped: path + url.PathEscape(s.Name), params: url.Values{}}
	if s.Filter != "" {
		q.params.Set("filter", s.Filter)
	}
	if s.from != "" {
		q.params.Set("dc", s.from)
	}
	return q
}

// get is ask with what reads the body. All but the wait is done aside.
func (c *client) get(ctx context.Context, q *query, from cursor, read func(io.Reader) error) (m meta, err error) {
	within := bounds{limit: answerGrace}
	if from.index > 0 {
		within.limit += c.wait + c.wait/16
		within.asOf = from.asOf
	}
	var req *http.Request
	var resp *http.Response
	if aside(func() { req, err = c.request(ctx, q, from) }); err == nil {
		resp, err = c.queries.query(req, within)
		aside(func() { m, err = c.read(ctx, q, resp, err, read) })
	}
	return m, err
}

// read reads an answer, if there is one.
func (c *client) read(ctx context.Context, q *query, resp *http.Response, err error, read func(io.Reader) error) (meta, error) {
	if err != nil {
		return meta{}, c.failed(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	isMissing := q.mayLack && resp.StatusCode == http.StatusNotFound
	if resp.StatusCode != http.StatusOK && !isMissing {
		return meta{}, &statusError{resp.StatusCode, c.failed(ctx, refusal(resp))}
	}
	m, err := readMetaHeaders(resp.Header)
	if err == nil && !isMissing {
		err = read(resp.Body)
	}
	if err != nil {
		return meta{}, c.failed(ctx, err)
	}
	return m, nil
}

func (c *client) request(ctx context.Context, q *query, from cursor) (*http.Request, error) {
	params := url.Values{}
	maps.Copy(params, c.common)
	maps.Copy(params, q.params)
	switch {
	case from.consistent:
		params.Set("consistent", "")
	case c.stale:
		params.Set("stale", "")
	}
	if from.index > 0 {
		params.Set("index", strconv.FormatUint(from.index, 10))
		params.Set("wait", strconv.FormatInt(c.wait.Milliseconds(), 10)+"ms")
	}
	u := c.endpoint.base
	u.RawPath = u.EscapedPath() + q.escaped
	u.Path += q.path
	u.RawQuery = params.Encode()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.endpoint, err)
	}
	return req, c.sign(req)
}

// sign adds the credentials to a request.
func (c *client) sign(req *http.Request) error {
	secret, err := c.token.Current()
	if err != nil {
		return err
	}
	if secret != "" {
		req.Header.Set("X-Consul-Token", secret)
	}
	if c.auth != nil {
		password, _ := c.auth.Password()
		req.SetBasicAuth(c.auth.Username(), password)
	}
	return nil
}

// failed names the agent, and the deadline where that was the cause. The URL
// that net/http puts before its errors is left out.
func (c *client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return fmt.Errorf("ask %s: %w", c.endpoint, err)
}

// refusal is the error of an answer that is not 200, with what Consul says.
func refusal(resp *http.Response) error {
	const most = 300 // bytes
	said, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	err := fmt.Errorf("status %s: %q", resp.Status, strings.TrimSpace(string(said)))
	if resp.StatusCode == http.StatusTooManyRequests {
		err = fmt.Errorf("%w (Consul's agent takes limits.http_max_conns_per_client connections, by default 200, from one address; raise it, or use HTTPS or a Unix socket)", err)
	}
	return err
}

func readMetaHeaders(h http.Header) (meta, error) {
	index, err := strconv.ParseUint(h.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		return meta{}, fmt.Errorf("header X-Consul-Index %.40q: want a number (is this Consul?)", h.Get("X-Consul-Index"))
	}
	const most = uint64(1) << 40 // ms, 34 years; more would overflow
	ms, err := strconv.ParseUint(h.Get("X-Consul-LastContact"), 10, 64)
	if err != nil || ms > most {
		return meta{}, fmt.Errorf("header X-Consul-LastContact %.40q: want milliseconds", h.Get("X-Consul-LastContact"))
	}
	return meta{
		index:       index,
		lastContact: time.Duration(ms) * time.Millisecond,
		knownLeader: h.Get("X-Consul-KnownLeader") == "true",
		streamed:    h.Get("X-Consul-Query-Backend") == api.QueryBackendStreaming,
		filtered:    h.Get("X-Consul-Results-Filtered-By-ACLs") == "true",
	}, nil
}
