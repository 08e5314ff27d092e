package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/internal/credential"
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

	// Hosts gives the names by which requests may call the server, besides
	// localhost and any IP address; nil is none.
	Hosts func() []string
}

// asksToken reports whether who is answered has shown the token.
func (a Access) asksToken() bool { return a.Token != "" || a.TokenFile != "" }

// openPath is answered to everybody: a supervisor of the process may ask
// whether it lives, and Consul's agent has no credentials.
const openPath = "/healthz"

// gate lets in whom Access lets in.
type gate struct {
	token       *credential.File[string]           // nil: none is asked for
	certificate *credential.File[*tls.Certificate] // nil: plain HTTP
	clients     *credential.File[*x509.CertPool]   // nil: none is asked for
	hosts       func() []string                    // nil: none
	log         hclog.Logger
}

// newGate reads all files once, so that errors show at the start.
func newGate(a Access, log hclog.Logger) (*gate, error) {
	g := &gate{log: log, hosts: a.Hosts}
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
		return nil, fmt.Errorf("api: access: %w", err)
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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == openPath, isFromSocket(r):
			next.ServeHTTP(w, r)
		case g.clients != nil && !isVerified(r):
			forbid(w, "client certificate required (api.tls.client_ca_file)")
		case g.token != nil && !isPage(r.URL.Path) && !g.isBearer(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "bearer token required (api.token_file)")
		case g.token == nil && !g.isCalled(r.Host):
			forbid(w, fmt.Sprintf("host %.100q: not a name of this sidecar; add it to api.hosts", r.Host))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isCalled reports whether a request may use this name for the server. A page
// in a browser could else read the API by a name of its own that leads here
// (DNS rebinding). It is no access control: any other client says what it
// likes. A browser has no token, so names do not matter where one is asked for.
func (g *gate) isCalled(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if _, err := netip.ParseAddr(host); err == nil || host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	return g.hosts != nil && slices.ContainsFunc(g.hosts(), func(h string) bool { return strings.EqualFold(h, host) })
}

// refuse answers one who may not ask, and closes the connection: one who is not
// let in must not hold it.
func refuse(w http.ResponseWriter, code int, why string) {
	w.Header().Set("Connection", "close")
	writeJSON(w, code, problem{why})
}

func forbid(w http.ResponseWriter, why string) { refuse(w, http.StatusForbidden, why) }

func isVerified(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }

func (g *gate) isBearer(r *http.Request) bool {
	want, err := g.token.Current()
	if err != nil {
		g.log.Error("bearer token unreadable, refusing all requests", "error", err)
		return false
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	// Of digests, so that not even the length can be measured.
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}
