package registrator

import (
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/pointsman/pointsman/internal/credential"
	"github.com/pointsman/pointsman/registrator/contract"
)

// Sidecars says how a program that leaves asks the load balancers whether
// anybody is on it still. What answers is Pointsman's sidecar beside each of
// them, which is found in Consul.
type Sidecars struct {
	// Off leaves them unasked: the program leaves after LeaveWait.
	Off bool

	Service string // under which they are registered; default DefaultSidecars

	// Datacenters are Consul's other ones in which there are load balancers that route to
	// the program: those whose sidecars have its datacenter among a service's datacenters.
	Datacenters []string

	// Token is what they ask for, if they do; TokenFile is a file with it, read
	// again for each question. At most one of both. It is sent over TLS only, and
	// with a CAFile or a ServerName: all who may register a service may name
	// an address, and a host's name with a certificate of its own.
	Token     Secret
	TokenFile string

	// SigningKeyFile has the key that the sidecars sign their answers with
	// (api.signing_key_file). With one, only signed answers are believed: whatever else
	// is registered as a sidecar, or stands between, cannot say that the program is
	// drained. It is read again for each question. It may have several keys, one a line:
	// what is signed with any of them is believed, so that a key can be replaced.
	SigningKeyFile string

	// CAFile holds the authorities that their certificates must come from;
	// default: the system's. With one, a sidecar whose API has no TLS is not
	// asked. CertFile and KeyFile are the certificate to show to them, and
	// ServerName is the name that theirs must have, if not that of the host. The
	// files are read again at each Leave. All are PEM.
	CAFile, CertFile, KeyFile string
	ServerName                string
}

// datacenterName is what Consul takes, in lower case.
var datacenterName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

// check returns s with its defaults, or all that is wrong with it.
func (s Sidecars) check() (Sidecars, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("registrator: sidecars: "+format, args...))
	}
	if s.Service == "" {
		s.Service = DefaultSidecars
	}
	for i, name := range s.Datacenters {
		switch {
		case !datacenterName.MatchString(name):
			bad("datacenter %s: want lower-case letters, digits, '-' and '_'", short(name))
		case slices.Contains(s.Datacenters[:i], name):
			bad("datacenter %q: listed twice", name)
		}
	}
	if s.Token != "" && s.TokenFile != "" {
		bad("a token and a token file, %q: want at most one", s.TokenFile)
	}
	if _, err := s.token(); err != nil {
		bad("%w", err)
	}
	if _, err := s.signingKeys(); err != nil {
		bad("%w", err)
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		bad("certificate file %q and key file %q: want both or none", s.CertFile, s.KeyFile)
	} else if _, err := s.tls(); err != nil {
		bad("%w", err)
	}
	return s, errors.Join(errs...)
}

// token returns what to show, or "" for nothing. Its errors never hold it.
func (s Sidecars) token() (string, error) {
	if err := credential.CheckToken(string(s.Token)); err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return credential.NewToken(string(s.Token), s.TokenFile).Current()
}

// signingKeys returns the keys of signed answers; none where they need no signature. Its
// errors never hold one.
func (s Sidecars) signingKeys() ([]string, error) {
	if s.SigningKeyFile == "" {
		return nil, nil
	}
	return credential.NewSigningKeys(s.SigningKeyFile, contract.CheckSigningKey).Current()
}

// tls reads the files.
func (s Sidecars) tls() (config *tls.Config, err error) {
	config = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	if s.CAFile != "" {
		if config.RootCAs, err = credential.NewAuthorities(s.CAFile).Current(); err != nil {
			return nil, err
		}
	}
	if s.CertFile != "" && s.KeyFile != "" {
		pair, err := credential.NewCertificate(s.CertFile, s.KeyFile).Current()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{*pair}
	}
	return config, nil
}
