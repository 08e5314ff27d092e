// Package sidecarapi is a client of the HTTP API of Pointsman's sidecars: docs/api.md
// describes the API, docs/openapi.json each answer.
//
// Its invariant: nothing of an answer is believed except what it must be. Anyone may
// register as a sidecar in Consul, and another program may have taken its port: every
// answer is bounded in time and size, and refused if it is of another load balancer
// or about something else than what was asked.
//
// It reads no file, no variable and no log: the caller hands over credentials.
package sidecarapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/registrator/contract"
)

// The defaults of Options.
const (
	DefaultConnectTimeout = 3 * time.Second
	DefaultAnswerTimeout  = 5 * time.Second
)

// MaxWait is the longest wait that a sidecar takes.
const MaxWait = 10 * time.Minute

// The bounds of an answer, in bytes.
const (
	maxHeader   = 16 << 10
	maxAnswer   = 64 << 10  // of one fact; it has a few hundred
	maxSummary  = 1 << 20   // 1,000 services in two versions each have some 400 KB
	maxCounters = 8 << 20   // 20,000 instances have some 4 MB
	maxState    = 128 << 20 // 10,000 instances have some 4 MB
)

// ActionTimeout bounds what needs the sidecar's loop, which may be busy: the sidecar
// answers 503 after it, and a client waits no longer.
const ActionTimeout = 15 * time.Second

// Options say how sidecars are reached, and what is shown to them. The zero value asks
// over TCP, trusts the system's authorities and shows nothing.
type Options struct {
	// Socket is the path of a sidecar's Unix socket (its setting api.socket). With one,
	// every request goes there, and the host of a Target's URL does not matter.
	Socket string

	// Token gives the bearer token of a request; "" is none. It is called for each
	// request that may have one: see Target.Registered. nil: there is none.
	Token func() (string, error)

	// SigningKeys gives the keys (api.signing_key_file of the sidecars), with one of
	// which an answer to Drain must be signed; none: it need not be. It is called for each
	// answer. nil: there are none.
	SigningKeys func() ([]string, error)

	// TLS is what https shows and trusts; nil: no certificate, and the system's
	// authorities.
	TLS *tls.Config
	// RequireTLS refuses a Target without https.
	RequireTLS bool

	// ConnectTimeout bounds the connecting and the TLS handshake, each. Default
	// DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// AnswerTimeout bounds how long an answer may take beyond the wait that was asked
	// for. Default DefaultAnswerTimeout.
	AnswerTimeout time.Duration

	// KeepAlive keeps connections for later requests, until Close. Without it every
	// request has a connection of its own, so that none is sent twice.
	KeepAlive bool

	// Dial connects instead of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client asks sidecars. It may be used by any number of goroutines.
type Client struct {
	options Options
	http    *http.Client
	knows   bool // who the sidecars are: by an authority or a name that they must prove
}

// Target is the sidecar to ask.
type Target struct {
	LoadBalancer string // its name, which the answer must have; "" is any
	URL          string // scheme http or https, host and port

	// Datacenter is Consul's, of the instance and the index that Drain asks about; "" is the
	// first one that the sidecar has for the service.
	Datacenter string

	// Registered says that the URL is what is registered in Consul, and not the caller's
	// own. Such a sidecar is sent the token only over TLS, and only if Options.TLS has
	// RootCAs or a ServerName: all who may register a service may name an address.
	Registered bool
}

// New makes a client. It opens no connection yet.
func New(o Options) *Client {
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, DefaultConnectTimeout)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, DefaultAnswerTimeout)
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &Client{
		options: o, knows: o.TLS != nil && (o.TLS.RootCAs != nil || o.TLS.ServerName != ""),
		http: &http.Client{
			// No proxy: the sidecars are the operator's own.
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					ctx, cancel := context.WithTimeoutCause(ctx, o.ConnectTimeout, fmt.Errorf("no connection within %v", o.ConnectTimeout))
					defer cancel()
					if o.Socket != "" {
						network, address = "unix", o.Socket
					}
					return dial(ctx, network, address)
				},
				TLSHandshakeTimeout:    o.ConnectTimeout,
				TLSClientConfig:        o.TLS,
				MaxResponseHeaderBytes: maxHeader,
				DisableCompression:     true, // a small answer must not become a large one
				DisableKeepAlives:      !o.KeepAlive,
				IdleConnTimeout:        30 * time.Second, // half of a sidecar's
				MaxIdleConnsPerHost:    16,
				Protocols:              &protocols,
			},
			// What was named is asked, and nothing that it points to.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close closes the connections that no request uses, also those that are being opened.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request.
type call struct {
	method string   // "" is GET
	path   []string // its parts, below /api/v1
	query  url.Values
	wait   time.Duration // that the answer may take, and Options.AnswerTimeout more
	most   int64         // bytes of the answer
	signed bool          // with the keys, if there are any
}

// wait is a call that the sidecar holds back.
func wait(path []string, query url.Values, d time.Duration) call {
	d = max(0, min(d.Round(time.Millisecond), MaxWait))
	query.Set("wait", d.String())
	return call{path: path, query: query, wait: d, most: maxAnswer}
}

// decode asks once, and decodes the answer.
func (c *Client) decode(ctx context.Context, to Target, q call, into any) error {
	body, err := c.ask(ctx, to, q)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return invalid(err)
	}
	return nil
}

// invalid is the error of JSON that does not fit: it may have a number as long as the
// answer.
func invalid(err error) error { return errors.New("invalid answer: " + brief(err.Error(), 200)) }

// ask asks once, and gives the body of a 200.
func (c *Client) ask(ctx context.Context, to Target, q call) ([]byte, error) {
	limit := q.wait + c.options.AnswerTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	request, err := c.request(ctx, to, q)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the rest is the URL, which the caller knows
		}
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it has been read, or is of no use
	body, err := io.ReadAll(io.LimitReader(response.Body, q.most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("answer incomplete: %w", cmp.Or(context.Cause(ctx), err))
	case int64(len(body)) > q.most:
		return nil, fmt.Errorf("answer larger than %d bytes", q.most)
	case response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNotFound:
		return nil, refusal(response, body)
	}
	if q.signed {
		if err := c.checkSignature(response, body); err != nil {
			return nil, err
		}
	}
	if response.StatusCode == http.StatusNotFound {
		return nil, notFound(to, response, body)
	}
	return body, nil
}

func (c *Client) request(ctx context.Context, to Target, q call) (*http.Request, error) {
	u, err := url.Parse(to.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("invalid address %s", quote(to.URL))
	}
	if c.options.RequireTLS && u.Scheme != "https" {
		return nil, errors.New("no TLS, but the certificates that are set require TLS")
	}
	token := ""
	if c.options.Token != nil && (!to.Registered || c.knows && u.Scheme == "https") {
		if token, err = c.options.Token(); err != nil {
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
	request.Header.Set("User-Agent", "pointsman")
	if q.signed && c.options.SigningKeys != nil {
		nonce := make([]byte, 16)
		_, _ = rand.Read(nonce) // crypto/rand never fails
		request.Header.Set(contract.HeaderNonce, hex.EncodeToString(nonce))
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

// ErrNotSigned is the error of an answer that no holder of Options.SigningKeys has
// given.
var ErrNotSigned = errors.New("answer not signed")

// checkSignature refuses an answer that no holder of a key has given to this very
// request.
func (c *Client) checkSignature(response *http.Response, body []byte) error {
	if c.options.SigningKeys == nil {
		return nil
	}
	keys, err := c.options.SigningKeys()
	if len(keys) == 0 || err != nil {
		return err
	}
	signature, asked := response.Header.Get(contract.HeaderSignature), response.Request
	switch {
	case signature == "":
		return ErrNotSigned
	case !slices.ContainsFunc(keys, func(key string) bool {
		return contract.IsSigned(signature, key, asked.Header.Get(contract.HeaderNonce), asked.URL.RequestURI(), response.StatusCode, body)
	}):
		return errors.New("answer signed with another key, or of another request")
	}
	return nil
}

// ErrNotRouted says that the load balancer does not route the service.
var ErrNotRouted = errors.New("does not route the service")

// StatusError is an answer that is a refusal.
type StatusError struct {
	Code int    // HTTP's, never 200
	Said string // the sidecar's reason; "" if it gave none. It is hostile: quote it
	// Busy says that the sidecar is well and wants to be asked again After that time, a
	// whole number of seconds. A proxy before a dead one does not say when.
	Busy  bool
	After time.Duration
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.Code, brief(strconv.Quote(e.Said), 250))
}

// refusal is the error of an answer that is neither 200 nor 404.
func refusal(response *http.Response, body []byte) error {
	e := &StatusError{Code: response.StatusCode, Said: saidIn(body)}
	seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16)
	if e.Code == http.StatusServiceUnavailable && err == nil {
		e.Busy, e.After = true, time.Duration(seconds)*time.Second
	}
	return e
}

// notFound is the error of a 404. Whatever else listens there may say 404 as well, so it
// must have the load balancer's name.
func notFound(to Target, response *http.Response, body []byte) error {
	if to.LoadBalancer == "" {
		return refusal(response, body)
	}
	f, err := fieldsOf(body)
	if err == nil {
		err = f.same("load_balancer", to.LoadBalancer)
	}
	if err != nil {
		return fmt.Errorf("status 404 from something other than this load balancer, or from another version of its sidecar: %w", err)
	}
	return ErrNotRouted
}

// saidIn is the reason in a refusal's body; what is no JSON says nothing.
func saidIn(body []byte) string {
	var said struct {
		Error string `json:"error"`
	}
	_ = json.NewDecoder(bytes.NewReader(body)).Decode(&said)
	return said.Error
}

// quote shows what another program has said, in at most some 120 bytes.
func quote(s string) string { return brief(strconv.Quote(s), 120) }

// brief cuts a text that may be as long as an answer.
func brief(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}
