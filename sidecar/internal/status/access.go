package status

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/credential"
)

// Access says who is answered, and whether by TLS. All that is set in it is
// asked for; the zero value answers everybody. What comes from files is read
// again when they change.
type Access struct {
	Token     string // as `Authorization: Bearer`; a secret
	TokenFile string // wins over Token

	CertFile, KeyFile string // of the server; "" speaks plain HTTP
	// ClientCAFile has the authorities, one of which must have signed a
	// client's certificate. It needs CertFile.
	ClientCAFile string
}

// isRestricted reports whether who is answered has shown credentials.
func (a Access) isRestricted() bool {
	return a.Token != "" || a.TokenFile != "" || a.ClientCAFile != ""
}

// openPath is answered to everybody: whoever supervises the process may ask
// whether it lives, and Consul's agent has no credentials.
const openPath = "/healthz"

// gate lets in whom Access lets in.
type gate struct {
	token       *credential.Token       // nil: none is asked for
	certificate *credential.Certificate // nil: plain HTTP
	clients     *credential.Authorities // nil: none is asked for
	log         hclog.Logger
}

// newGate reads all files once, so that what is wrong is told at the start.
func newGate(a Access, log hclog.Logger) (*gate, error) {
	g := &gate{log: log}
	var errs []error
	if a.Token != "" || a.TokenFile != "" {
		g.token = credential.NewToken(a.Token, a.TokenFile)
		_, err := g.token.Current()
		errs = append(errs, err, credential.CheckToken(a.Token))
	}
	if (a.CertFile == "") != (a.KeyFile == "") {
		errs = append(errs, fmt.Errorf("certificate %q and key %q: want both or none", a.CertFile, a.KeyFile))
	}
	if a.CertFile != "" && a.KeyFile != "" {
		g.certificate = credential.NewCertificate(a.CertFile, a.KeyFile)
		_, err := g.certificate.Current()
		errs = append(errs, err)
	}
	if a.ClientCAFile != "" {
		g.clients = credential.NewAuthorities(a.ClientCAFile)
		_, err := g.clients.Current()
		errs = append(errs, err)
		if g.certificate == nil {
			errs = append(errs, errors.New("a clients' authority needs a certificate of the server"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("status: access: %w", err)
	}
	return g, nil
}

// listener speaks TLS on another, if it is to be spoken. Certificates are those
// of the moment of each handshake.
func (g *gate) listener(plain net.Listener) net.Listener {
	if g.certificate == nil {
		return plain
	}
	return tls.NewListener(plain, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			certificate, err := g.certificate.Current()
			if err != nil {
				return nil, err
			}
			config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*certificate}}
			if g.clients == nil {
				return config, nil
			}
			// One that is given must be good; whether one is needed depends on
			// the path.
			config.ClientAuth = tls.VerifyClientCertIfGiven
			config.ClientCAs, err = g.clients.Current()
			return config, err
		},
	})
}

// guard answers those who may not ask, and passes on the others.
func (g *gate) guard(next http.Handler) http.Handler {
	if g.token == nil && g.clients == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == openPath:
			next.ServeHTTP(w, r)
		case g.clients != nil && !isVerified(r):
			writeJSON(w, http.StatusForbidden, problem{"a client certificate of an authority that is known here is needed (status.tls.client_ca_file)"})
		case g.token != nil && !g.isBearer(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeJSON(w, http.StatusUnauthorized, problem{"a bearer token is needed (status.token_file)"})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func isVerified(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }

func (g *gate) isBearer(r *http.Request) bool {
	want, err := g.token.Current()
	if err != nil {
		g.log.Error("the bearer token cannot be read: nobody is let in", "error", err)
		return false
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	// Of digests, so that not even the length can be measured.
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}
