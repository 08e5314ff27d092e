package daemon

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/test/certtest"
)

// liveSidecar answers that an instance is live, to those who may ask.
func liveSidecar(may func(*http.Request) (code int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(may(r))
		fmt.Fprint(w, `{"load_balancer":"lb0","service":"api","version":"1.1","live":true,"count":3,"want":3}`)
	}
}

func askLive(t *testing.T, c Credentials, url string) error {
	t.Helper()
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Live(t.Context(), sidecarapi.Target{LoadBalancer: "lb0", URL: url}, "api", "1.1", 3, 0)
	return err
}

func TestCredentials_Token_IsShown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(liveSidecar(func(r *http.Request) int {
		if r.Header.Get("Authorization") != "Bearer secret" {
			return http.StatusUnauthorized
		}
		return http.StatusOK
	}))
	defer server.Close()
	for _, c := range []Credentials{{TokenFile: file}, {Token: "secret"}, {Token: "other", TokenFile: file}} {
		if err := askLive(t, c, server.URL); err != nil {
			t.Errorf("with the token by %+v: %v", c, err)
		}
	}
	if err := askLive(t, Credentials{}, server.URL); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without it: got %v, want 401", err)
	}
}

func TestCredentials_Certificates_RequireTLS(t *testing.T) {
	a := certtest.New(t)
	a.Sign("server")
	a.Sign("client")
	file := a.Path
	own, err := tls.LoadX509KeyPair(file("server.pem"), file("server-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(liveSidecar(func(r *http.Request) int {
		if len(r.TLS.PeerCertificates) == 0 {
			return http.StatusForbidden
		}
		return http.StatusOK
	}))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert}
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(liveSidecar(func(*http.Request) int { return http.StatusOK }))
	defer plain.Close()
	who := Credentials{CaFile: file("ca.pem"), CertFile: file("client.pem"), KeyFile: file("client-key.pem")}
	for name, c := range map[string]struct {
		who  Credentials
		url  string
		want string // "" for success
	}{
		"with certificate and authority": {who, secure.URL, ""},
		"without a certificate":          {Credentials{CaFile: file("ca.pem")}, secure.URL, "403"},
		"without the authority":          {Credentials{}, secure.URL, "authority"},
		"one that speaks no TLS":         {who, plain.URL, "no TLS, but"},
		"the sidecar's own certificate":  {Credentials{CertFile: file("server.pem"), KeyFile: file("server-key.pem"), Same: true}, secure.URL, ""},
		"not the sidecar's own":          {Credentials{CertFile: file("client.pem"), KeyFile: file("client-key.pem"), Same: true}, secure.URL, "is not api.tls.cert_file"},
		"a certificate without its key":  {Credentials{CertFile: file("client.pem")}, secure.URL, "want both or none"},
		"no token file":                  {Credentials{TokenFile: "/nowhere"}, secure.URL, "/nowhere"},
		"an authority that is none":      {Credentials{CaFile: file("client-key.pem")}, secure.URL, "no certificate in PEM"},
	} {
		err := askLive(t, c.who, c.url)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
