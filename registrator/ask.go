package registrator

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/registrator/contract"
)

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 16 << 10

// A busyError says that a sidecar is well and wants to be asked later.
type busyError struct{ after time.Duration }

func (b *busyError) Error() string { return "too many waiting requests" }

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// asker asks sidecars, for one Leave.
type asker struct {
	config Sidecars
	http   *http.Client
	broken error // why none can be asked by TLS
}

// newAsker reads the files again: certificates change while a program runs.
// patience bounds how long a connection may take.
func newAsker(config Sidecars, patience time.Duration, dial dialer) *asker {
	a := &asker{config: config}
	secure, err := config.tls()
	if err != nil {
		a.broken = err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	a.http = &http.Client{
		Transport: &http.Transport{
			// No proxy: load balancers are near, and what the environment says is
			// for the program. A connection for each question: the transport sends
			// none a second time, and none is left.
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no connection within %v", patience))
				defer cancel()
				return dial(ctx, network, address)
			},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			TLSClientConfig:        secure,
			TLSHandshakeTimeout:    patience,
			MaxResponseHeaderBytes: maxHeader,
			Protocols:              &protocols,
		},
		// What the catalog named is asked, and nothing that it points to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a
}

func (a *asker) close() { a.http.CloseIdleConnections() }

// ask puts one question, which is answered when the last session has gone, or after
// wait. The index is Consul's for the service: older knowledge proves nothing.
// asked reports whether the question was sent, whatever came of it.
func (a *asker) ask(ctx context.Context, to sidecar, q request, index uint64, wait time.Duration) (got answer, asked bool, err error) {
	request, err := a.request(ctx, to, q, index, wait)
	if err != nil {
		return answer{}, false, err
	}
	var sent atomic.Bool
	request = request.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { sent.Store(info.Err == nil) },
	}))
	response, err := a.http.Do(request)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the rest is the URL, which says what we know
		}
		return answer{}, sent.Load(), err
	}
	defer func() { _ = response.Body.Close() }()
	got, err = a.read(ctx, response, q)
	return got, true, err
}

func (a *asker) request(ctx context.Context, to sidecar, q request, index uint64, wait time.Duration) (*http.Request, error) {
	switch {
	case to.bad != nil:
		return nil, to.bad
	case to.https && a.broken != nil:
		return nil, a.broken
	case !to.https && a.config.CAFile != "":
		return nil, errors.New("its API has no TLS, which Sidecars.CAFile (--sidecar-ca-file) requires")
	}
	token := ""
	if a.config.isVerified(to) {
		var err error
		if token, err = a.config.token(); err != nil {
			return nil, err
		}
	}
	scheme := "http"
	if to.https {
		scheme = "https"
	}
	target := &url.URL{
		Scheme: scheme, Host: to.at,
		Path:     "/api/v1/drain/" + q.service + "/" + q.instance,
		RawPath:  "/api/v1/drain/" + segment(q.service) + "/" + segment(q.instance),
		RawQuery: url.Values{"wait": {wait.Round(time.Millisecond).String()}, "index": {strconv.FormatUint(index, 10)}}.Encode(),
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", "pointsman-registrator")
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // crypto/rand never fails
	request.Header.Set(contract.HeaderNonce, hex.EncodeToString(nonce))
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return request, nil
}

// read reads an answer, of which nothing is to be believed but what it must be.
func (a *asker) read(ctx context.Context, response *http.Response, q request) (answer, error) {
	switch response.StatusCode {
	case http.StatusOK, http.StatusNotFound:
	case http.StatusUnauthorized:
		return answer{}, errors.New("status 401: token required or rejected, sent only over TLS with a CA or a server name: see Sidecars.TokenFile (--sidecar-token-file), Sidecars.CAFile (--sidecar-ca-file)")
	case http.StatusForbidden:
		return answer{}, errors.New("status 403: client certificate required: see Sidecars.CertFile (--sidecar-cert-file)")
	default:
		// Only a sidecar says when to come again; a proxy before a dead one doesn't.
		seconds, err := strconv.ParseUint(response.Header.Get("Retry-After"), 10, 16)
		if response.StatusCode == http.StatusServiceUnavailable && err == nil {
			return answer{}, &busyError{time.Duration(seconds) * time.Second}
		}
		return answer{}, fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return answer{}, fmt.Errorf("answer incomplete: %w", cmp.Or(context.Cause(ctx), err))
	case len(body) > maxAnswer:
		return answer{}, fmt.Errorf("answer larger than %d bytes", maxAnswer)
	}
	if err := a.checkSignature(response, body); err != nil {
		return answer{}, err
	}
	if response.StatusCode == http.StatusNotFound {
		return parseNotRouted(body, q)
	}
	return parseAnswer(body, q)
}

// checkSignature refuses an answer that no holder of the key has given to this very
// question.
func (a *asker) checkSignature(response *http.Response, body []byte) error {
	keys, err := a.config.signingKeys()
	if len(keys) == 0 || err != nil {
		return err
	}
	signature, asked := response.Header.Get(contract.HeaderSignature), response.Request
	switch {
	case signature == "":
		return errors.New("answer not signed, which Sidecars.SigningKeyFile (--sidecar-signing-key-file) requires: see the sidecar's api.signing_key_file")
	case !slices.ContainsFunc(keys, func(key string) bool {
		return contract.IsSigned(signature, key, asked.Header.Get(contract.HeaderNonce), asked.URL.RequestURI(), response.StatusCode, body)
	}):
		return errors.New("answer signed with another key, or of another question")
	}
	return nil
}

// segment escapes a part of a path, also one that would mean to go up in it.
func segment(s string) string {
	if strings.Trim(s, ".") == "" {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	return url.PathEscape(s)
}
