package registrator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// asker asks sidecars, for one Leave.
type asker struct {
	config Sidecars
	client *sidecarapi.Client
	broken error // why none can be asked by TLS
}

// newAsker reads the files again: certificates change while a program runs.
// connectTimeout bounds how long a connection may take; answers are bounded by who asks.
func newAsker(config Sidecars, connectTimeout time.Duration, dial dialer) *asker {
	secure, err := config.tls()
	return &asker{config: config, broken: err, client: sidecarapi.New(sidecarapi.Options{
		Token: config.token, SigningKeys: config.signingKeys, TLS: secure,
		ConnectTimeout: connectTimeout, AnswerTimeout: time.Hour, Dial: dial,
	})}
}

// reply is what a sidecar says.
type reply struct {
	sidecarapi.Drain
	routed bool // its load balancer routes the service
}

// outcome is "" as long as the program must not stop, as far as this one goes.
func (r reply) outcome() Outcome {
	switch {
	case !r.routed:
		return OutcomeNotRouted
	case r.Drained:
		return OutcomeDrained
	}
	return ""
}

// busy reports whether a sidecar is well and wants to be asked later, and when.
func busy(err error) (after time.Duration, isBusy bool) {
	refused, ok := errors.AsType[*sidecarapi.StatusError](err)
	if !ok || !refused.Busy {
		return 0, false
	}
	return refused.After, true
}

// ask puts one question, which is answered when the last session has gone, or after
// wait. The index is Consul's for the service: older knowledge proves nothing. asked
// reports whether the question was sent, whatever came of it.
func (a *asker) ask(ctx context.Context, to sidecar, service, instance string, index uint64, wait time.Duration) (got reply, asked bool, err error) {
	scheme := "http"
	switch {
	case to.bad != nil:
		return got, false, to.bad
	case to.https && a.broken != nil:
		return got, false, a.broken
	case !to.https && a.config.CAFile != "":
		return got, false, errors.New("its API has no TLS, which Sidecars.CAFile (--sidecar-ca-file) requires")
	case to.https:
		scheme = "https"
	}
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { sent.Store(info.Err == nil) },
	})
	target := sidecarapi.Target{LoadBalancer: to.name, URL: scheme + "://" + to.at, Datacenter: to.asks, Registered: true}
	got.Drain, err = a.client.Drain(ctx, target, service, instance, index, wait)
	if errors.Is(err, sidecarapi.ErrNotRouted) {
		return got, true, nil
	}
	got.routed = err == nil
	return got, sent.Load(), withHint(err)
}

// withHint adds to an error what to set.
func withHint(err error) error {
	refused, ok := errors.AsType[*sidecarapi.StatusError](err)
	switch {
	case errors.Is(err, sidecarapi.ErrNotSigned):
		return fmt.Errorf("%w, which Sidecars.SigningKeyFile (--sidecar-signing-key-file) requires: see the sidecar's api.signing_key_file", err)
	case ok && refused.Code == http.StatusUnauthorized:
		return fmt.Errorf("%w: token required or rejected, sent only over TLS with a CA or a server name: see Sidecars.TokenFile (--sidecar-token-file), Sidecars.CAFile (--sidecar-ca-file)", err)
	case ok && refused.Code == http.StatusForbidden:
		return fmt.Errorf("%w: client certificate required: see Sidecars.CertFile (--sidecar-cert-file)", err)
	}
	return err
}
