package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/internal/credential"
)

// The defaults of Options, and the bounds of its times.
const (
	DefaultAddress  = "127.0.0.1:8500"
	DefaultWaitTime = 5 * time.Minute
	// MaxWaitTime is the longest that Consul lets a query block; it cuts longer
	// ones short (API documentation, "Blocking Queries").
	MaxWaitTime = 10 * time.Minute
)

// Options say where Consul is and how to ask it. The zero value asks the
// agent on this machine.
type Options struct {
	// Address is host:port, or http://host:port/prefix, https://host:port, or
	// unix:///path. Default DefaultAddress.
	Address string
	// Scheme is "http" or "https" for an Address without one. Default "http".
	Scheme string

	Token     string // ACL token; a secret
	TokenFile string // file that holds the ACL token; it wins over Token and is reread before each query
	HTTPAuth  string // user:password for a proxy in front of Consul; a secret

	CAFile, CAPath     string // what to trust; default: the system's
	CertFile, KeyFile  string // client certificate, both or none
	ServerName         string // name in Consul's certificate; default: the address's
	InsecureSkipVerify bool   // do not check Consul's certificate

	Datacenter, Namespace, Partition string // sent with every query where set

	// WaitTime is how long a query blocks while nothing changes; Consul adds up
	// to a sixteenth. At most MaxWaitTime. Default DefaultWaitTime.
	WaitTime time.Duration

	// MaxStale, above zero, lets any Consul server answer, and not the leader
	// alone, as long as it has heard from the leader within this time. Zero asks
	// the leader.
	MaxStale time.Duration

	// Lookup gives the addresses of a host name. Default: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// LookupInterval is how often names are looked up again. Default
	// DefaultLookupInterval.
	LookupInterval time.Duration

	Logger hclog.Logger // default: none
}

// check returns o with its defaults, or all that is wrong with it.
func (o Options) check() (Options, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("consul: "+format, args...)) }

	if o.Address == "" {
		o.Address = DefaultAddress
	}
	if o.Scheme == "" {
		o.Scheme = schemeHTTP
	}
	if o.Scheme != schemeHTTP && o.Scheme != schemeHTTPS {
		bad("scheme %q: want %q or %q", o.Scheme, schemeHTTP, schemeHTTPS)
	}
	if _, err := parseEndpoint(o.Address, o.Scheme); err != nil {
		bad("%w", err)
	}
	if o.WaitTime == 0 {
		o.WaitTime = DefaultWaitTime
	}
	if o.WaitTime < time.Second || o.WaitTime > MaxWaitTime {
		bad("wait time %v: want 1s to %v", o.WaitTime, MaxWaitTime)
	}
	if o.MaxStale < 0 {
		bad("max stale %v: want 0 or more", o.MaxStale)
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		bad("client certificate %q and key %q: want both or none", o.CertFile, o.KeyFile)
	}
	if err := credential.CheckToken(o.Token); err != nil {
		bad("token: %w", err)
	}
	if o.Lookup == nil {
		o.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if o.LookupInterval <= 0 {
		o.LookupInterval = DefaultLookupInterval
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o, errors.Join(errs...)
}

const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
)

// endpoint is where the agent listens.
type endpoint struct {
	base   url.URL // scheme, host and path prefix
	socket string  // path of a Unix socket, or ""
}

// isNear reports whether Consul is on this machine, where compressing an answer
// takes longer than sending it (15 MB: 0.16 to 0.30 s as they are, 0.26 to 0.32 s
// compressed; Consul 1.22).
func (e endpoint) isNear() bool {
	host := e.base.Hostname()
	addr, err := netip.ParseAddr(host)
	return e.socket != "" || host == "localhost" || err == nil && addr.IsLoopback()
}

// parseEndpoint reads the forms of address that Consul's own CLI takes.
func parseEndpoint(address, scheme string) (endpoint, error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if path == "" {
			return endpoint{}, fmt.Errorf("address %q: no path after unix://", address)
		}
		// The host of a Unix socket is never looked up; Go wants a valid one.
		return endpoint{base: url.URL{Scheme: scheme, Host: "localhost"}, socket: path}, nil
	}
	full := address
	if !strings.Contains(address, "://") {
		full = scheme + "://" + address
	}
	u, err := url.Parse(full)
	switch {
	case err != nil:
		// url.Error quotes the whole address, which may hold a password.
		return endpoint{}, fmt.Errorf("address: %w", errors.Unwrap(err))
	case u.User != nil:
		return endpoint{}, errors.New("address: contains a user; use HTTP auth instead (address not shown)")
	case u.Scheme != schemeHTTP && u.Scheme != schemeHTTPS:
		return endpoint{}, fmt.Errorf("address %q: want host:port, http://, https:// or unix://", address)
	case u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "":
		return endpoint{}, fmt.Errorf("address %q: want host:port and at most a path prefix", address)
	}
	if scheme == schemeHTTPS {
		u.Scheme = scheme // as Consul's CLI: never back to http where TLS was asked for
	}
	return endpoint{base: url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, "/")}}, nil
}

// String is the address for errors and logs. It holds no secret.
func (e endpoint) String() string {
	if e.socket != "" {
		return "unix://" + e.socket
	}
	return e.base.String()
}
