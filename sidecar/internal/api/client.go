package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/credential"
)

// The bounds of a question.
const (
	dialTimeout = 3 * time.Second
	// answerGrace is how long beyond its wait an answer may take.
	answerGrace = 5 * time.Second
	maxAnswer   = 64 << 10
	maxSummary  = 1 << 20   // 1,000 services in two versions each have some 400 KB
	maxState    = 128 << 20 // 10,000 instances have some 4 MB
)

// ErrNotRouted says that the load balancer does not route the service.
var ErrNotRouted = errors.New("does not route the service")

// ClientOptions say who asks. Files are read again when they change,
// except the authorities.
type ClientOptions struct {
	Socket string // path of the Unix socket that is asked, whatever a Target says

	Token     string // the bearer token; a secret
	TokenFile string // wins over Token

	// With any of these no request goes without TLS: the token would be read by
	// others. CAFile "" trusts whom the system trusts.
	CAFile, CertFile, KeyFile string
	// Same is set by who asks for itself: the sidecar must have the certificate
	// of CertFile, by whatever name it is reached, and no authority is asked.
	Same bool
}

// tls gives what is shown and trusted, or nil for an https that nothing is said
// of.
func (o ClientOptions) tls() (*tls.Config, error) {
	if o.CAFile == "" && o.CertFile == "" && o.KeyFile == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, fmt.Errorf("client certificate %q and key %q: want both or none", o.CertFile, o.KeyFile)
	}
	if o.CertFile != "" {
		certificate := credential.NewCertificate(o.CertFile, o.KeyFile)
		current, err := certificate.Current()
		if err != nil {
			return nil, err
		}
		if o.Same {
			return same(current), nil
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate.Current() }
	}
	if o.CAFile == "" {
		return config, nil
	}
	var err error
	config.RootCAs, err = credential.NewAuthorities(o.CAFile).Current()
	return config, err
}

// same takes a certificate for the proof of who the other is, and shows it
// where one of its issuer is asked for.
func same(own *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		Certificates:       []tls.Certificate{*own},
		InsecureSkipVerify: true, //nolint:gosec // the very certificate is compared
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, own.Certificate[0]) {
				return errors.New("server certificate is not api.tls.cert_file")
			}
			return nil
		},
	}
}

// Client asks sidecars. Nothing of an answer is believed but what it must be:
// anyone may register as a sidecar, and another's may have taken the port.
type Client struct {
	http  *http.Client
	token *credential.Token
	tls   bool // sends no request without
	knows bool // who the sidecars are, by an authority of its own
}

// Target is the sidecar to ask.
type Target struct {
	LoadBalancer string // its name, which the answer must have; "" is any
	URL          string // scheme, host and port

	// Registered says that the URL is what is registered in Consul: it
	// is sent the token only if ClientOptions.CAFile says who it is.
	Registered bool
}

// NewClient reads the files, so that errors show at the start. It
// opens no connection yet; close it at the end.
func NewClient(o ClientOptions) (*Client, error) {
	token := credential.NewToken(o.Token, o.TokenFile)
	_, errToken := token.Current()
	config, errTLS := o.tls()
	if err := errors.Join(errToken, errTLS); err != nil {
		return nil, fmt.Errorf("status: to be shown to sidecars: %w", err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	dial := (&net.Dialer{Timeout: dialTimeout}).DialContext
	if o.Socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", o.Socket)
		}
	}
	return &Client{
		token: token, tls: config != nil, knows: o.CAFile != "",
		http: &http.Client{
			// No proxy: the sidecars are the operator's own.
			Transport: &http.Transport{
				DialContext:            dial,
				TLSHandshakeTimeout:    dialTimeout,
				TLSClientConfig:        config,
				MaxResponseHeaderBytes: maxHeaderBytes,
				DisableCompression:     true, // a small answer must not become a large one
				IdleConnTimeout:        idleTimeout / 2,
				MaxIdleConnsPerHost:    16,
				Protocols:              &protocols,
			},
			// The token goes to whom it is meant for.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close lets the connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Live is an answer of /api/v1/live.
type Live struct {
	Live        bool
	Count, Want int
}

// Live asks until count instances of the version take traffic, or for wait.
func (c *Client) Live(ctx context.Context, to Target, service, version string, count int, wait time.Duration) (Live, error) {
	var a liveAnswer
	query := url.Values{"version": {version}, "count": {strconv.Itoa(count)}}
	if err := c.poll(ctx, to, []string{"live", service}, query, wait, &a); err != nil {
		return Live{}, err
	}
	if err := is(to, a.LoadBalancer, service, a.Service); err != nil {
		return Live{}, err
	}
	if a.Version != version || a.Want != count || a.Count < 0 || a.Live != (a.Count >= count) {
		return Live{}, fmt.Errorf("inconsistent answer: version %s, %d of %d, live %v", quote(a.Version), a.Count, a.Want, a.Live)
	}
	return Live{Live: a.Live, Count: a.Count, Want: a.Want}, nil
}

// Drain asks until no session is on the instance, by what Consul knew at the index
// or later, or for wait.
func (c *Client) Drain(ctx context.Context, to Target, service, instance string, index uint64, wait time.Duration) (Drain, error) {
	var a drainAnswer
	query := url.Values{"index": {strconv.FormatUint(index, 10)}}
	if err := c.poll(ctx, to, []string{"drain", service, instance}, query, wait, &a); err != nil {
		return Drain{}, err
	}
	if err := is(to, a.LoadBalancer, service, a.Service); err != nil {
		return Drain{}, err
	}
	switch {
	case a.Instance != instance:
		return Drain{}, fmt.Errorf("the answer is about the instance %s", quote(a.Instance))
	case a.Drained && (a.Sessions != 0 || a.Index < index):
		return Drain{}, fmt.Errorf("inconsistent answer: drained, with %d sessions, at index %d of %d", a.Sessions, a.Index, index)
	}
	return a.Drain, nil
}

// View is one service in an answer of /api/v1/state. An instance that several of its
// backends have is there several times; Index is the oldest of theirs.
type View struct {
	Index     uint64         `json:"index"`
	Instances []ViewInstance `json:"instances"`
	Rejected  []struct {
		ID    string `json:"id"`
		Node  string `json:"node"`
		Error string `json:"error"`
	} `json:"rejected"`
}

// ViewInstance is one instance, or a server that Consul does not list, in a
// View.
type ViewInstance struct {
	ID       string `json:"id"`
	Node     string `json:"node"`
	Version  string `json:"version"`
	Phase    string `json:"phase"`
	Leaving  bool   `json:"leaving"`
	Weight   int    `json:"weight"`
	Sessions int    `json:"sessions"`
	Check    string `json:"check"` // HAProxy's last one, of a server that is down
}

// View asks for all that the sidecar knows of a service.
func (c *Client) View(ctx context.Context, to Target, service string) (View, error) {
	var state struct {
		LoadBalancer string `json:"load_balancer"`
		Services     []struct {
			Name string `json:"name"`
			View
		} `json:"services"`
	}
	if err := c.ask(ctx, to, stateRequest{path: []string{"state"}, most: maxState}, &state); err != nil {
		return View{}, err
	}
	if err := is(to, state.LoadBalancer, service, service); err != nil {
		return View{}, err
	}
	var view View
	routed := false
	for _, s := range state.Services { // each backend of the service
		switch {
		case s.Name != service:
			continue
		case !routed:
			view, routed = s.View, true
			continue
		}
		view.Index = min(view.Index, s.Index)
		view.Instances, view.Rejected = append(view.Instances, s.Instances...), append(view.Rejected, s.Rejected...)
	}
	if !routed {
		return View{}, ErrNotRouted
	}
	return view, nil
}

// State asks for all that the sidecar knows, and decodes it into what it is
// given. Whose it is, that tells: it is not looked at here.
func (c *Client) State(ctx context.Context, to Target, into any) error {
	return c.ask(ctx, to, stateRequest{path: []string{"state"}, wait: releaseTimeout, most: maxState}, into)
}

// Summary asks for how the load balancer does, without its instances.
func (c *Client) Summary(ctx context.Context, to Target, into any) error {
	return c.ask(ctx, to, stateRequest{path: []string{"summary"}, most: maxSummary}, into)
}

// Fleet asks for all load balancers that the sidecar finds.
func (c *Client) Fleet(ctx context.Context, to Target, into any) error {
	return c.ask(ctx, to, stateRequest{path: []string{"fleet"}, wait: releaseTimeout, most: maxState}, into)
}

// Events asks for what happened after a number, at most max of them; after 0, for
// the newest.
func (c *Client) Events(ctx context.Context, to Target, after uint64, limit int) (Events, error) {
	var a Events
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	err := c.ask(ctx, to, stateRequest{path: []string{"events"}, query: query, wait: releaseTimeout, most: maxState}, &a)
	return a, err
}

// Release releases what the guard holds of a service or a backend.
func (c *Client) Release(ctx context.Context, to Target, service string) (Released, error) {
	var a Released
	q := stateRequest{method: http.MethodPost, path: []string{"guard", service, "release"}, wait: releaseTimeout, most: maxState}
	if err := c.ask(ctx, to, q, &a); err != nil {
		return Released{}, err
	}
	return a, is(to, a.LoadBalancer, service, a.Service)
}

// SetDrain puts a server in drain for an operator, or ends that.
func (c *Client) SetDrain(ctx context.Context, to Target, service, server string, on bool) (OperatorDrain, error) {
	var a OperatorDrain
	do := "ready"
	if on {
		do = "drain"
	}
	q := stateRequest{method: http.MethodPost, path: []string{"server", service, server, do}, wait: releaseTimeout, most: maxAnswer}
	if err := c.ask(ctx, to, q, &a); err != nil {
		return OperatorDrain{}, err
	}
	return a, is(to, a.LoadBalancer, service, a.Service)
}

// is refuses an answer of another load balancer, or about another service.
func is(to Target, balancer, service, about string) error {
	switch {
	case to.LoadBalancer != "" && balancer != to.LoadBalancer:
		return fmt.Errorf("the load balancer %s answers there", quote(balancer))
	case about != service:
		return fmt.Errorf("the answer is about the service %s", quote(about))
	}
	return nil
}

func (c *Client) poll(ctx context.Context, to Target, path []string, query url.Values, wait time.Duration, into any) error {
	wait = max(0, min(wait.Round(time.Millisecond), maxWait))
	query.Set("wait", wait.String())
	return c.ask(ctx, to, stateRequest{path: path, query: query, wait: wait, most: maxAnswer}, into)
}

// stateRequest is one request.
type stateRequest struct {
	method string   // "" is GET
	path   []string // its parts, below /api/v1
	query  url.Values
	wait   time.Duration // that the answer may take, and answerGrace more
	most   int64         // bytes of the answer
}

// ask asks once, and decodes the answer.
func (c *Client) ask(ctx context.Context, to Target, q stateRequest, into any) error {
	limit := q.wait + answerGrace
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	request, err := c.request(ctx, to, q)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.failed(ctx, err)
	}
	defer func() { _ = response.Body.Close() }() // it has been read, or is of no use
	body, err := io.ReadAll(io.LimitReader(response.Body, q.most+1))
	switch {
	case err != nil:
		return c.failed(ctx, fmt.Errorf("answer incomplete: %w", err))
	case int64(len(body)) > q.most:
		return fmt.Errorf("answer larger than %d bytes", q.most)
	case response.StatusCode != http.StatusOK:
		return refusal(to, response.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("invalid answer: %w", err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, to Target, q stateRequest) (*http.Request, error) {
	u, err := url.Parse(to.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("invalid address %s", quote(to.URL))
	}
	if c.tls && u.Scheme != "https" {
		return nil, errors.New("no TLS, but the certificates that are set require TLS")
	}
	token := ""
	if !to.Registered || c.knows && u.Scheme == "https" {
		if token, err = c.token.Current(); err != nil {
			return nil, err
		}
	}
	u.Path, u.RawPath = "/api/v1", "/api/v1"
	for _, part := range q.path {
		u.Path += "/" + part
		u.RawPath += "/" + segment(part)
	}
	u.RawQuery = q.query.Encode()
	request, err := http.NewRequestWithContext(ctx, q.method, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request, nil
}

// segment escapes a part of a path, also one that would mean to go up in it.
func segment(s string) string {
	if strings.Trim(s, ".") == "" {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}

// failed gives the deadline where that was the cause, and leaves out the URL.
func (c *Client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// refusal is the error of an answer that is not 200.
func refusal(to Target, code int, body []byte) error {
	var said unroutedAnswer
	_ = json.Unmarshal(body, &said) // what is no JSON says nothing
	switch {
	case code == http.StatusNotFound && said.LoadBalancer != "" && said.LoadBalancer == to.LoadBalancer:
		return ErrNotRouted
	case code == http.StatusUnauthorized && to.Registered:
		return errors.New("status 401: it wants a bearer token, which an address from Consul is sent only over TLS and with a CA file (deploy: --sidecar-ca-file, or name the address by --load-balancer; the sidecar's view of the fleet: api.tls.ca_file)")
	case code == http.StatusUnauthorized:
		return errors.New("status 401: bearer token rejected")
	}
	return fmt.Errorf("status %d: %s", code, quote(said.Error))
}

// quote shows what another program has said.
func quote(s string) string {
	const most = 200 // bytes
	return fmt.Sprintf("%q", s[:min(len(s), most)])
}
