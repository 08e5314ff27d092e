package status

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", nil, nil)
	return a
}

// sign makes NAME.pem and NAME-key.pem, signed by a parent or by itself.
func (a *authority) sign(name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	a.must(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: parent == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	a.must(err)
	cert, err := x509.ParseCertificate(der)
	a.must(err)
	private, err := x509.MarshalECPrivateKey(key)
	a.must(err)
	a.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.write(name+"-key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
	return cert, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name string, content []byte) {
	a.t.Helper()
	a.must(os.WriteFile(a.path(name), content, 0o600))
}

func (a *authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// client trusts the authority, and shows a certificate unless name is "".
func (a *authority) client(name string) *http.Transport {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+"-key.pem"))
		a.must(err)
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
}

// answer gives the code of one request.
func answer(t *testing.T, by http.RoundTripper, url, authorization string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := by.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func TestATokenIsAskedForEverywhereButForHealth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	o := options()
	o.Access = Access{TokenFile: file}
	url := start(t, o)
	plain := &http.Transport{DisableKeepAlives: true}
	for _, c := range []struct {
		path, authorization string
		want                int
	}{
		{"/healthz", "", 200},
		{"/metrics", "", 401},
		{"/readyz", "", 401},
		{"/", "", 401},
		{"/nothing", "", 401},
		{"/api/v1/state", "", 401},
		{"/api/v1/state", "Bearer", 401},
		{"/api/v1/state", "Bearer ", 401},
		{"/api/v1/state", "Bearer firs", 401},
		{"/api/v1/state", "Basic first", 401},
		{"/api/v1/state", "first", 401},
		{"/api/v1/state", "Bearer first", 200},
		{"/api/v1/state", "bearer first", 200},
	} {
		code, header := answer(t, plain, url+c.path, c.authorization)
		if code != c.want {
			t.Errorf("%s with %q: got %d, want %d", c.path, c.authorization, code, c.want)
		}
		if code == 401 && header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: WWW-Authenticate = %q, want Bearer", c.path, header.Get("WWW-Authenticate"))
		}
	}
	write("second")
	if code, _ := answer(t, plain, url+"/readyz", "Bearer first"); code != 401 {
		t.Errorf("the old token after its rotation: got %d, want 401", code)
	}
	if code, _ := answer(t, plain, url+"/readyz", "Bearer second"); code != 200 {
		t.Errorf("the new token after the rotation: got %d, want 200", code)
	}
	write("")
	if code, _ := answer(t, plain, url+"/readyz", "Bearer second"); code != 200 {
		t.Errorf("while the file is being replaced: got %d, want 200", code)
	}
}

func TestAClientsCertificateIsAskedForEverywhereButForHealth(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	ca.sign("server", ca.cert, ca.key)
	ca.sign("node", ca.cert, ca.key)
	stranger.sign("node", stranger.cert, stranger.key)
	o := options()
	o.Access = Access{CertFile: ca.path("server.pem"), KeyFile: ca.path("server-key.pem"), ClientCAFile: ca.path("ca.pem")}
	url := strings.Replace(start(t, o), "http://", "https://", 1)

	if code, _ := answer(t, ca.client(""), url+"/healthz", ""); code != 200 {
		t.Errorf("health without a certificate: got %d, want 200", code)
	}
	if code, _ := answer(t, ca.client(""), url+"/readyz", ""); code != 403 {
		t.Errorf("without a certificate: got %d, want 403", code)
	}
	if code, _ := answer(t, ca.client("node"), url+"/readyz", ""); code != 200 {
		t.Errorf("with a certificate: got %d, want 200", code)
	}
	foreign := ca.client("")
	pair, err := tls.LoadX509KeyPair(stranger.path("node.pem"), stranger.path("node-key.pem"))
	ca.must(err)
	foreign.TLSClientConfig.Certificates = []tls.Certificate{pair}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", http.NoBody)
	ca.must(err)
	if resp, err := foreign.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("with a stranger's certificate: got %d, want 403 or no answer", resp.StatusCode)
		}
	}

	// All of it is rotated, without a restart.
	next := newAuthority(t)
	next.sign("server", next.cert, next.key)
	next.sign("node", next.cert, next.key)
	for _, name := range []string{"ca.pem", "server.pem", "server-key.pem"} {
		content, err := os.ReadFile(next.path(name))
		ca.must(err)
		ca.write(name, content)
	}
	if code, _ := answer(t, next.client("node"), url+"/readyz", ""); code != 200 {
		t.Errorf("after the rotation: got %d, want 200", code)
	}
	ca.write("server-key.pem", []byte("half a"))
	if code, _ := answer(t, next.client("node"), url+"/readyz", ""); code != 200 {
		t.Errorf("with a key that is being replaced: got %d, want 200", code)
	}
}

func TestNewRefusesAccessThatCannotWork(t *testing.T) {
	ca := newAuthority(t)
	for name, access := range map[string]Access{
		"a token file that is not there":       {TokenFile: ca.path("nothing")},
		"a token that no header can hold":      {Token: "two words"},
		"a certificate without its key":        {CertFile: ca.path("ca.pem")},
		"a certificate that is none":           {CertFile: ca.path("ca-key.pem"), KeyFile: ca.path("ca-key.pem")},
		"an authority without a certificate":   {CertFile: ca.path("ca.pem"), KeyFile: ca.path("ca-key.pem"), ClientCAFile: ca.path("ca-key.pem")},
		"a clients' authority over plain HTTP": {ClientCAFile: ca.path("ca.pem")},
	} {
		o := options()
		o.Access = access
		_, err := New(o)
		if err == nil {
			t.Errorf("%s: got no error", name)
		} else if strings.Contains(err.Error(), "two words") {
			t.Errorf("%s: the error shows the token: %v", name, err)
		}
	}
}
