package ready

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Check is one thing that must be so. Exactly one of its fields is set.
type Check struct {
	HTTP string // URL that must answer 2xx
	TCP  string // host:port that must accept a connection
}

// A statusError is an answer that is not 2xx.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// prober makes checks as Consul's agent does: it follows redirects, and opens
// a connection for every probe.
type prober struct {
	timeout time.Duration
	client  *http.Client
}

// newProber gives one that uses no proxy: what it asks for is close by.
func newProber(timeout time.Duration) *prober {
	return &prober{timeout: timeout, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
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
		err = p.get(probe, c.HTTP)
	default:
		err = connect(probe, c.TCP)
	}
	if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() && ctx.Err() == nil {
		return fmt.Errorf("%s: no answer within %v", cmp.Or(c.HTTP, c.TCP), p.timeout)
	}
	return err
}

func (p *prober) get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("GET %s: %w", url, statusError(response.StatusCode))
	}
	// A health page is short, and a program that writes one hears of an error
	// if nobody reads it.
	_, err = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	return err
}

func connect(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
