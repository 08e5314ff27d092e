package api

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/certtest"
)

// client trusts an authority, and shows certificates.
func client(a *certtest.Authority, shown ...tls.Certificate) *http.Transport {
	config := &tls.Config{RootCAs: a.Pool(), Certificates: shown, MinVersion: tls.VersionTLS12}
	return &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
}

// answer returns the code of one request.
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
	if resp.Close { // the client takes the header out
		resp.Header.Set("Connection", "close")
	}
	return resp.StatusCode, resp.Header
}

func TestATokenIsAskedForEverywhereExceptHealth(t *testing.T) {
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
	plain := &http.Transport{}
	defer plain.CloseIdleConnections()
	for _, c := range []struct {
		path, authorization string
		want                int
	}{
		{"/healthz", "", 200},
		{"/metrics", "", 401},
		{"/readyz", "", 401},
		{"/", "", 200}, // the page has no data, and asks for the token
		{"/ui/main.js", "", 200},
		{"/ui/nothing", "", 404},
		{"/ui/../api/v1/state", "", 401},
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
		if code == 401 && header.Get("Connection") != "close" {
			t.Errorf("%s: the connection stays open after a 401", c.path)
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

func TestAClientsCertificateIsAskedForEverywhereExceptHealth(t *testing.T) {
	ca, stranger := certtest.New(t), certtest.New(t)
	ca.Sign("server")
	ca.Sign("node")
	stranger.Sign("node")
	o := options()
	o.Access = Access{CertFile: ca.Path("server.pem"), KeyFile: ca.Path("server-key.pem"), ClientCAFile: ca.Path("ca.pem")}
	url := strings.Replace(start(t, o), "http://", "https://", 1)

	if code, _ := answer(t, client(ca), url+"/healthz", ""); code != 200 {
		t.Errorf("health without a certificate: got %d, want 200", code)
	}
	if code, _ := answer(t, client(ca), url+"/readyz", ""); code != 403 {
		t.Errorf("without a certificate: got %d, want 403", code)
	}
	if code, _ := answer(t, client(ca, ca.Pair("node")), url+"/readyz", ""); code != 200 {
		t.Errorf("with a certificate: got %d, want 200", code)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client(ca, stranger.Pair("node")).RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("with a stranger's certificate: got %d, want 403 or no answer", resp.StatusCode)
		}
	}

	// All of it is rotated, without a restart.
	next := certtest.New(t)
	next.Sign("server")
	next.Sign("node")
	for _, name := range []string{"ca.pem", "server.pem", "server-key.pem"} {
		ca.Write(name, next.Read(name))
	}
	if code, _ := answer(t, client(next, next.Pair("node")), url+"/readyz", ""); code != 200 {
		t.Errorf("after the rotation: got %d, want 200", code)
	}
	ca.Write("server-key.pem", []byte("half a"))
	if code, _ := answer(t, client(next, next.Pair("node")), url+"/readyz", ""); code != 200 {
		t.Errorf("with a key that is being replaced: got %d, want 200", code)
	}
}

func TestNewRefusesAccessThatCannotWork(t *testing.T) {
	ca := certtest.New(t)
	for name, access := range map[string]Access{
		"a token file that is not there":       {TokenFile: ca.Path("nothing")},
		"a token that no header can hold":      {Token: "two words"},
		"a certificate without its key":        {CertFile: ca.Path("ca.pem")},
		"a certificate that is none":           {CertFile: ca.Path("ca-key.pem"), KeyFile: ca.Path("ca-key.pem")},
		"an authority without a certificate":   {CertFile: ca.Path("ca.pem"), KeyFile: ca.Path("ca-key.pem"), ClientCAFile: ca.Path("ca-key.pem")},
		"a clients' authority over plain HTTP": {ClientCAFile: ca.Path("ca.pem")},
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

func TestHost_ThatIsNoNameOfTheServer_IsForbidden(t *testing.T) {
	o := options()
	o.Access.Hosts = func() []string { return []string{"lb0", "lb0.example.net", ""} }
	url := start(t, o)
	by := &http.Transport{}
	defer by.CloseIdleConnections()
	for host, want := range map[string]int{
		"127.0.0.1:9600":         200,
		"[::1]:9600":             200,
		"[::1]":                  200,
		"203.0.113.7":            200,
		"localhost:9600":         200,
		"LB0:9600":               200,
		"lb0.example.net":        200,
		"lb0.example.net.":       200,
		"evil.example:9600":      403,
		"lb0.evil.example":       403,
		"127.0.0.1.evil.example": 403,
		"localhost.evil.example": 403,
		"1":                      403,
	} {
		for path, code := range map[string]int{"/api/v1/state": want, "/metrics": want, "/": want, "/healthz": 200} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := by.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != code || (code == 403) != resp.Close {
				t.Errorf("%s of %q: got %d, closes %v; want %d", path, host, resp.StatusCode, resp.Close, code)
			}
		}
	}
}
