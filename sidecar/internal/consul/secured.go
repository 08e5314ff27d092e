package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/hashicorp/consul/api"
)

// secured makes TLS connections. Certificates and what is trusted are read
// again for each: connections are rare, and no time stamp can then hide that a
// file was rotated. Connections that are there go on with what they began with.
type secured struct {
	files api.TLSConfig
	dial  dial

	mu   sync.Mutex
	last *tls.Config // guarded by mu; the last that could be read
}

// newSecured fails if the files cannot be read now.
func newSecured(o Options, plain dial) (*secured, error) {
	s := &secured{dial: plain, files: api.TLSConfig{
		Address:            o.ServerName,
		CAFile:             o.CAFile,
		CAPath:             o.CAPath,
		CertFile:           o.CertFile,
		KeyFile:            o.KeyFile,
		InsecureSkipVerify: o.InsecureSkipVerify,
	}}
	_, err := s.current()
	return s, err
}

// current reads the files. Those that can't be read, as for a moment in which
// one of a pair is new and the other is not, leave the last that could be in
// use.
func (s *secured) current() (*tls.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	config, err := api.SetupTLSConfig(&s.files)
	switch {
	case err == nil:
		config.MinVersion = tls.VersionTLS12
		config.NextProtos = []string{"h2", "http/1.1"}
		s.last = config
	case s.last == nil:
		return nil, fmt.Errorf("TLS (CA file %q, CA path %q, certificate %q, key %q): %w", s.files.CAFile, s.files.CAPath, s.files.CertFile, s.files.KeyFile, err)
	}
	return s.last.Clone(), nil
}

// connect is http.Transport's DialTLSContext.
func (s *secured) connect(ctx context.Context, network, address string) (net.Conn, error) {
	config, err := s.current()
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, err
		}
	}
	raw, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}
