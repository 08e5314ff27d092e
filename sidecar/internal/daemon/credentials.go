package daemon

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/pointsman/pointsman/internal/credential"
	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Credentials are what is shown to sidecars and asked of them. Files are read again
// when they change, except the authorities.
type Credentials struct {
	Token     string // a secret
	TokenFile string // wins over token

	// With any of these no request goes without TLS: the token would be read by
	// others. caFile "" trusts whom the system trusts.
	CaFile, CertFile, KeyFile string
	// same is set where a sidecar's own user asks it: it must have the certificate of
	// certFile, by whatever name it is reached, and no authority is asked.
	Same bool
}

// Client reads the files, so that errors show at the start.
func (c Credentials) Client() (*sidecarapi.Client, error) {
	token := credential.NewToken(c.Token, c.TokenFile)
	_, errToken := token.Current()
	config, errTLS := c.tls()
	if err := errors.Join(errToken, errTLS); err != nil {
		return nil, fmt.Errorf("credentials for sidecars: %w", err)
	}
	return sidecarapi.New(sidecarapi.Options{Token: token.Current, TLS: config, RequireTLS: config != nil, KeepAlive: true}), nil
}

// tls returns what is shown and trusted, or nil where nothing is said of it.
func (c Credentials) tls() (*tls.Config, error) {
	if c.CaFile == "" && c.CertFile == "" && c.KeyFile == "" {
		return nil, nil //nolint:nilnil // the system's
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, fmt.Errorf("client certificate %q and key %q: want both or none", c.CertFile, c.KeyFile)
	}
	if c.CertFile != "" {
		certificate := credential.NewCertificate(c.CertFile, c.KeyFile)
		current, err := certificate.Current()
		if err != nil {
			return nil, err
		}
		if c.Same {
			return same(current), nil
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate.Current() }
	}
	if c.CaFile == "" {
		return config, nil
	}
	var err error
	config.RootCAs, err = credential.NewAuthorities(c.CaFile).Current()
	return config, err
}

// same takes a certificate for the proof of who the other is, and shows it
// where one of its issuer is asked for.
func same(own *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		Certificates:       []tls.Certificate{*own},
		InsecureSkipVerify: true, //nolint:gosec // the very certificate is compared
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, own.Certificate[0]) {
				return errors.New("server certificate is not api.tls.cert_file")
			}
			return nil
		},
	}
}

// WithTokenHint adds to a 401 of a sidecar from Consul what to set, so that it is sent
// the token.
func WithTokenHint(err error, set string) error {
	if refused, ok := errors.AsType[*sidecarapi.StatusError](err); ok && refused.Code == 401 {
		return fmt.Errorf("%w: bearer token required; to an address from Consul the token is sent only over TLS and with a CA file (%s)", err, set)
	}
	return err
}
