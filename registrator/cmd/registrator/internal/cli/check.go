package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/ready"
)

// defaultTTL is that of `--check ttl`.
const defaultTTL = 10 * time.Second

// check is one --check: exactly one of its fields but tls is set.
type check struct {
	path string        // on the program's own address and port
	url  string        // elsewhere
	tcp  bool          // a connection to the program's address and port
	grpc *string       // of gRPC's health protocol there: the service, or "" for all
	ttl  time.Duration // of the wrapper's TTL check
	tls  bool          // with path or grpc
}

func parseCheck(s string) (check, error) {
	kind, rest, more := strings.Cut(s, ":")
	switch {
	case s == "tcp":
		return check{tcp: true}, nil
	case s == "ttl":
		return check{ttl: defaultTTL}, nil
	case kind == "ttl":
		ttl, err := time.ParseDuration(rest)
		if err != nil || ttl < time.Second {
			return check{}, errors.New("want ttl:TIME with a time of 1s or more")
		}
		return check{ttl: ttl}, nil
	case kind == "grpc" || kind == "grpcs":
		if more && rest == "" || strings.ContainsFunc(rest, func(c rune) bool { return c <= ' ' || c > '~' || c == '/' }) {
			return check{}, fmt.Errorf("want %[1]s, or %[1]s:SERVICE with the name of a gRPC service", kind)
		}
		return check{grpc: &rest, tls: kind == "grpcs"}, nil
	case strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://"):
		// A password in it would be shown by Consul to all.
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.User != nil {
			return check{}, errors.New("want a URL with a host and without a user")
		}
		return check{url: s}, nil
	case (kind == "http" || kind == "https") && strings.HasPrefix(rest, "/"):
		if u, err := url.ParseRequestURI(rest); err != nil || u.Host != "" || strings.ContainsAny(rest, " #") {
			return check{}, fmt.Errorf("want %s:/PATH with a path as it stands in a request", kind)
		}
		return check{path: rest, tls: kind == "https"}, nil
	}
	return check{}, errors.New("want http:/PATH, https:/PATH, a whole http:// or https:// URL, tcp, grpc, grpcs, ttl or ttl:TIME")
}

// parseHost takes what may stand in a Host header.
func parseHost(s string) (string, error) {
	if u, err := url.Parse("http://" + s + "/"); err != nil || u.Host != s {
		return "", errors.New("want a host, or host:port")
	}
	return s, nil
}

// checks returns what Consul checks, and what is probed before the program is
// registered. host is where both reach the program.
func (s *settings) checks(host string) ([]registrator.Check, []ready.Check) {
	at := net.JoinHostPort(host, strconv.Itoa(s.port))
	asked := s.check
	if len(asked) == 0 {
		asked = []check{{tcp: true}}
	}
	var consul []registrator.Check
	var probes []ready.Check
	for _, c := range asked {
		made := registrator.Check{Interval: s.checkInterval, Timeout: s.checkTimeout}
		probe := c.at(at, &made)
		if made.HTTP != "" {
			made.Host, probe.Host = s.checkHost, s.checkHost
		}
		if strings.HasPrefix(made.HTTP, "https:") || made.GRPCTLS {
			made.TLSSkipVerify = s.checkSkipVerify
			// Which authorities are trusted is the agent's to know. We can't make
			// its check of the certificate, so it must have passed once.
			made.StartCritical = !s.checkSkipVerify
			made.TLSServerName = hostname(s.checkHost)
			probe.ServerName = made.TLSServerName
		}
		consul, probes = append(consul, made), append(probes, probe)
	}
	name(consul)
	return consul, probes
}

// at fills in what Consul asks, and gives what is probed; the program is at at.
func (c check) at(at string, made *registrator.Check) ready.Check {
	switch {
	case c.path != "":
		made.HTTP = "http://" + at + c.path
		if c.tls {
			made.HTTP = "https://" + at + c.path
		}
		return ready.Check{HTTP: made.HTTP}
	case c.url != "":
		made.HTTP = c.url
		return ready.Check{HTTP: c.url}
	case c.grpc != nil:
		made.GRPC, made.GRPCTLS = at, c.tls
		if *c.grpc != "" {
			made.GRPC += "/" + *c.grpc
		}
		return ready.Check{GRPC: at, Service: *c.grpc, TLS: c.tls}
	case c.tcp:
		made.TCP = at
	default:
		// A TTL check update says nothing of being ready; that the program listens is the
		// least.
		made.TTL = c.ttl
	}
	return ready.Check{TCP: at}
}

// hostname is a Host header without its port.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// name gives each check a name of its own: http, http-2 and so on.
func name(checks []registrator.Check) {
	count := make(map[string]int)
	for i, c := range checks {
		kind := "ttl"
		switch {
		case c.HTTP != "":
			kind = "http"
		case c.TCP != "":
			kind = "tcp"
		case c.GRPC != "":
			kind = "grpc"
		}
		count[kind]++
		checks[i].Name = kind
		if n := count[kind]; n > 1 {
			checks[i].Name = fmt.Sprintf("%s-%d", kind, n)
		}
	}
}
