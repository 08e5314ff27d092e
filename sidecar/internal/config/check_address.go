package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// hostPort passes host:port. The host may be empty, the port 0, where listen
// is set.
func hostPort(s string, listen bool) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("must be host:port")
	}
	if err := portNumber(port, listen); err != nil {
		return err
	}
	if host == "" {
		if listen {
			return nil
		}
		return errors.New("must be host:port, with a host")
	}
	return hostName(host)
}

// hostName passes a host's name or address without brackets.
func hostName(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if err := name(s); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	return nil
}

// portNumber exists because HAProxy does not check ports: 70000 becomes 4464
// without a word (docs/haproxy-facts.md, fact 10).
func portNumber(s string, zero bool) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 65535 || n == 0 && !zero {
		return fmt.Errorf("port %s must be a number from 1 to 65535", quote(s))
	}
	return nil
}

// balancerAddress passes where clients can reach a machine.
func balancerAddress(s string) error {
	if addr, err := netip.ParseAddr(s); err == nil && (addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "") {
		return errors.New("must be the address of one machine")
	}
	return hostName(s)
}

// checkURL passes what Consul's agent can ask.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return errors.New("must be a URL of http:// or https://, without credentials")
	}
	return word(s)
}

// advertise passes where others reach a machine, with a port or without.
func advertise(s string) error {
	if host, _, err := net.SplitHostPort(s); err == nil {
		if err := hostPort(s, false); err != nil {
			return err
		}
		return balancerAddress(host)
	}
	return balancerAddress(s)
}

func listenAddress(s string) error { return hostPort(s, true) }

// maxSocketPath is what fits into sockaddr_un (unix(7): 108 bytes with the
// final zero).
const maxSocketPath = 107

// socket passes the path of a unix socket, or host:port.
func socket(s string) error {
	for _, prefix := range []string{"unix@", "unix:", "ipv4@", "ipv6@", "tcp@", "tcp:", "abns@"} {
		if strings.HasPrefix(s, prefix) {
			return fmt.Errorf("must be a path or host:port, without %s", prefix)
		}
	}
	if !strings.Contains(s, "/") {
		if err := hostPort(s, false); err != nil {
			return fmt.Errorf("must be a path with a '/' in it, or host:port: %w", err)
		}
		return nil
	}
	if len(s) > maxSocketPath {
		return fmt.Errorf("is longer than a unix socket's path may be, %d bytes", maxSocketPath)
	}
	return word(s)
}

// unixSocket passes the path of a unix socket.
func unixSocket(s string) error {
	if !strings.Contains(s, "/") {
		return errors.New("must be a path with a '/' in it")
	}
	return socket(s)
}

// consulAddress passes what Consul's clients take as CONSUL_HTTP_ADDR.
func consulAddress(s string) error {
	scheme, rest, found := strings.Cut(s, "://")
	switch {
	case !found:
		return hostPort(s, false)
	case scheme == "unix":
		return path(rest)
	case scheme != "http" && scheme != "https":
		return errors.New("must be host:port, http://…, https://… or unix:///path")
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("must be a URL of scheme, host and port; credentials go to consul.http_auth")
	}
	if u.Port() != "" {
		return hostPort(u.Host, false)
	}
	return hostName(u.Hostname())
}

// peerAddress passes the address of one machine that others reach.
func peerAddress(s string) error {
	at, err := netip.ParseAddrPort(s)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
		return errors.New("must be an IP address and port, such as 10.0.0.5:10000")
	}
	if at.Addr().IsUnspecified() {
		return errors.New("must be the address of one machine")
	}
	return nil
}
