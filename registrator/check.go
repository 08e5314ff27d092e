package registrator

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// The defaults of Check.
const (
	DefaultInterval = time.Second
	DefaultTimeout  = time.Second
	// DefaultDeregisterAfter is Consul's floor for it, which it looks at every
	// 30 seconds: it only cleans up after crashes.
	DefaultDeregisterAfter = time.Minute
)

// Check is how Consul finds out whether the program is healthy. Exactly one of
// HTTP, TCP, GRPC and TTL says how.
type Check struct {
	Name string // unique in the service; default: http, tcp, grpc or ttl

	HTTP string        // URL that the agent gets; 2xx is passing, 429 warning, all else critical
	TCP  string        // host:port that the agent connects to
	GRPC string        // host:port or host:port/SERVICE that the agent asks by gRPC's health protocol
	TTL  time.Duration // how long one TTL check update lasts; the library sends them while the program runs

	Interval time.Duration // of HTTP, TCP and GRPC; default DefaultInterval
	Timeout  time.Duration // of HTTP, TCP and GRPC; default DefaultTimeout

	// Host is the Host header of HTTP, for a program that answers by it; default:
	// the URL's host.
	Host string

	// GRPCTLS makes GRPC speak TLS. TLSServerName is the name in the certificate
	// that a check by TLS expects, if not the host; TLSSkipVerify lets it take any
	// certificate, where all that it is to tell is whether something answers. The
	// authorities that it trusts are set in the agent.
	GRPCTLS       bool
	TLSServerName string
	TLSSkipVerify bool

	// DeregisterCriticalAfter is how long the check may be critical before
	// Consul forgets the service. Default DefaultDeregisterAfter; below zero
	// never.
	DeregisterCriticalAfter time.Duration

	// StartCritical keeps traffic away until the check has passed once. It is
	// for programs that register something else than themselves, and so cannot
	// know that it is ready. A check that Consul has keeps its state.
	StartCritical bool
}

// checkAll returns the checks with their defaults, or all that is wrong.
func checkAll(checks []Check) ([]Check, error) {
	var errs []error
	names := make(map[string]bool)
	checks = slices.Clone(checks)
	for i := range checks {
		var err error
		checks[i], err = checks[i].check()
		if err == nil && names[checks[i].Name] {
			err = errors.New("the name is used twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("registrator: check %d %q: %w", i+1, checks[i].Name, err))
		}
		names[checks[i].Name] = true
	}
	return checks, errors.Join(errs...)
}

func (c Check) check() (Check, error) {
	var kinds []string
	if c.HTTP != "" {
		kinds = append(kinds, "http")
	}
	if c.TCP != "" {
		kinds = append(kinds, "tcp")
	}
	if c.GRPC != "" {
		kinds = append(kinds, "grpc")
	}
	if c.TTL != 0 {
		kinds = append(kinds, "ttl")
	}
	if len(kinds) != 1 {
		return c, fmt.Errorf("%d of HTTP, TCP, GRPC and TTL are set: want exactly one", len(kinds))
	}
	if c.Name == "" {
		c.Name = kinds[0]
	}
	c.Interval = orDefault(c.Interval, DefaultInterval)
	c.Timeout = orDefault(c.Timeout, DefaultTimeout)
	c.DeregisterCriticalAfter = orDefault(c.DeregisterCriticalAfter, DefaultDeregisterAfter)
	u, err := url.Parse(c.HTTP)
	grpcAt, _, _ := strings.Cut(c.GRPC, "/")
	switch {
	case c.HTTP != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == ""):
		return c, fmt.Errorf("HTTP %q: want an http:// or https:// URL", c.HTTP)
	case c.TCP != "" && !isHostPort(c.TCP):
		return c, fmt.Errorf("TCP %q: want host:port", c.TCP)
	case c.GRPC != "" && !isHostPort(grpcAt):
		return c, fmt.Errorf("GRPC %q: want host:port or host:port/SERVICE", c.GRPC)
	case c.Host != "" && c.HTTP == "":
		return c, fmt.Errorf("host %q: it is for HTTP", c.Host)
	case strings.ContainsFunc(c.Host, isNoHost):
		return c, fmt.Errorf("host %q: want a host, or host:port", c.Host)
	case c.GRPCTLS && c.GRPC == "":
		return c, errors.New("TLS for gRPC: it is for GRPC")
	case (c.TLSServerName != "" || c.TLSSkipVerify) && u.Scheme != "https" && !c.GRPCTLS:
		return c, fmt.Errorf("TLS server name %q, skip verify %t: they are for an https:// URL, or gRPC over TLS", c.TLSServerName, c.TLSSkipVerify)
	case c.TTL != 0 && c.TTL < time.Second:
		return c, fmt.Errorf("TTL %v: want 1s or more", c.TTL)
	case c.Interval < time.Second:
		return c, fmt.Errorf("interval %v: Consul takes 1s or more", c.Interval)
	case c.Timeout <= 0:
		return c, fmt.Errorf("timeout %v: want more than 0", c.Timeout)
	case c.DeregisterCriticalAfter >= 0 && c.DeregisterCriticalAfter < DefaultDeregisterAfter:
		return c, fmt.Errorf("deregister critical after %v: Consul takes %v or more", c.DeregisterCriticalAfter, DefaultDeregisterAfter)
	}
	return c, nil
}

// definition is the check as Consul takes it. Its ID is the same every time:
// Consul then keeps the check's state when the service is registered again. The
// status is that of a check which Consul does not have yet: without it, it is
// critical until its first run.
func (c Check) definition(service string) *api.AgentServiceCheck {
	d := &api.AgentServiceCheck{
		CheckID: checkID(service, c.Name),
		Name:    c.Name,
		HTTP:    c.HTTP,
		TCP:     c.TCP,
		GRPC:    c.GRPC,
		Status:  api.HealthPassing,

		GRPCUseTLS: c.GRPCTLS, TLSServerName: c.TLSServerName, TLSSkipVerify: c.TLSSkipVerify,
	}
	if c.Host != "" {
		d.Header = map[string][]string{"Host": {c.Host}}
	}
	if c.StartCritical {
		d.Status = api.HealthCritical
	}
	if c.TTL > 0 {
		d.TTL = c.TTL.String()
	} else {
		d.Interval, d.Timeout = c.Interval.String(), c.Timeout.String()
	}
	if c.DeregisterCriticalAfter > 0 {
		d.DeregisterCriticalServiceAfter = c.DeregisterCriticalAfter.String()
	}
	return d
}

// isNoHost reports whether a character can't stand in a Host header.
func isNoHost(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("/\\?#@\"<>", c) }

func checkID(service, name string) string { return service + ":" + name }
