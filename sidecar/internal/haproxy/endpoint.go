package haproxy

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// endpoint is where one of HAProxy's APIs listens. The zero endpoint is none.
type endpoint struct {
	network string // "unix" or "tcp"
	address string // a path, or host:port
}

func (e endpoint) String() string { return e.address }

// parseEndpoint reads the forms that HAProxy itself takes for `stats socket`
// and -S, and "unix:path" beside them. An address without a prefix is a path
// if it has a slash.
func parseEndpoint(s string) (endpoint, error) {
	if s == "" {
		return endpoint{}, errors.New("no address given")
	}
	for _, prefix := range []string{"unix@", "unix:"} {
		if path, ok := strings.CutPrefix(s, prefix); ok {
			return unixEndpoint(path)
		}
	}
	if address, ok := strings.CutPrefix(s, "tcp@"); ok {
		return tcpEndpoint(address)
	}
	if strings.Contains(s, "/") {
		return unixEndpoint(s)
	}
	return tcpEndpoint(s)
}

// maxUnixPath is what sockaddr_un holds on Linux, without the ending zero.
const maxUnixPath = 107

func unixEndpoint(path string) (endpoint, error) {
	switch {
	case path == "":
		return endpoint{}, errors.New("the path is empty")
	case strings.ContainsRune(path, 0):
		return endpoint{}, fmt.Errorf("path %q: has a zero byte", path)
	case len(path) > maxUnixPath:
		return endpoint{}, fmt.Errorf("path %q: %d bytes, a unix socket's path has at most %d", path, len(path), maxUnixPath)
	}
	return endpoint{"unix", path}, nil
}

func tcpEndpoint(address string) (endpoint, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return endpoint{}, fmt.Errorf("address %q: neither a path nor host:port: %w", address, err)
	}
	if port == "" {
		return endpoint{}, fmt.Errorf("address %q: no port", address)
	}
	return endpoint{"tcp", address}, nil
}
