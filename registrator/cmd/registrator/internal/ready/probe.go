package ready

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Check is one thing that must be so. Exactly one of HTTP, TCP and GRPC is set.
type Check struct {
	HTTP string // URL that must answer 2xx
	Host string // its Host header, if not the URL's host

	TCP string // host:port that must accept a connection

	GRPC    string // host:port that must serve by gRPC's health protocol
	Service string // of it; "" is all of it
	TLS     bool   // of GRPC

	ServerName string // that TLS asks for, if not the host
}

func (c Check) String() string { return cmp.Or(c.HTTP, c.TCP, c.GRPC) }

// A statusError is an answer that is not 2xx.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// A nowhereError is why none of several places passes, one error for each.
type nowhereError struct{ each []error }

func (e nowhereError) Error() string {
	var all []string
	for _, err := range e.each {
		all = append(all, err.Error())
	}
	return strings.Join(all, "; ")
}

// Unwrap returns them.
func (e nowhereError) Unwrap() []error { return e.each }

// prober makes checks as Consul's agent does: it follows redirects, and opens
// a connection for every probe. It uses no proxy: what it asks for is close by.
// It takes any certificate: whose are good is set in the agent.
type prober struct{ timeout time.Duration }

func newProber(timeout time.Duration) *prober { return &prober{timeout} }

// any returns the first place of which all checks pass, or why none does.
func (p *prober) any(ctx context.Context, places [][]Check) (int, error) {
	var errs []error
	for i, checks := range places {
		err := p.all(ctx, checks)
		if err == nil {
			return i, nil
		}
		errs = append(errs, err)
	}
	return 0, nowhereError{errs}
}

// all makes the checks, and gives the first that does not pass.
func (p *prober) all(ctx context.Context, checks []Check) error {
	for _, c := range checks {
		if err := p.one(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (p *prober) one(ctx context.Context, c Check) error {
	probe, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var err error
	switch {
	case c.HTTP != "":
		err = get(probe, c)
	case c.GRPC != "":
		err = askGRPC(probe, c)
	default:
		err = connect(probe, c.TCP)
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() && ctx.Err() == nil {
		return fmt.Errorf("%s: no answer within %v", c, p.timeout)
	}
	return err
}

func (c Check) tls() *tls.Config {
	return &tls.Config{ServerName: c.ServerName, InsecureSkipVerify: true} //nolint:gosec // see prober
}

func get(ctx context.Context, c Check) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.HTTP, http.NoBody)
	if err != nil {
		return err
	}
	request.Host = c.Host
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c.tls()}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("GET %s: %w", c.HTTP, statusError(response.StatusCode))
	}
	// A health page is short, and a program that writes one hears of an error
	// if it is not read.
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	return err
}

func askGRPC(ctx context.Context, c Check) error {
	transport := insecure.NewCredentials()
	if c.TLS {
		transport = credentials.NewTLS(c.tls())
	}
	conn, err := grpc.NewClient("passthrough:///"+c.GRPC, grpc.WithTransportCredentials(transport), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: c.Service})
	switch {
	case err != nil:
		return fmt.Errorf("gRPC %s: %w", c.GRPC, err)
	case answer.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("gRPC %s: %s", c.GRPC, answer.GetStatus())
	}
	return nil
}

func connect(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
