package registrator_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

func TestSettingsOfTheSidecarsThatAreWrongAreNamed(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		write(t, path, text)
		return path
	}
	for name, c := range map[string]struct {
		sidecars registrator.Sidecars
		want     []string
	}{
		"both tokens":         {registrator.Sidecars{Token: "x", TokenFile: file("t", "x")}, []string{"a token and a token file"}},
		"a token with breaks": {registrator.Sidecars{Token: "hush\r\nX: y"}, []string{"token: contains a space"}},
		"an endless token":    {registrator.Sidecars{TokenFile: "/dev/zero"}, []string{"/dev/zero: larger than 4096 bytes"}},
		"an empty token file": {registrator.Sidecars{TokenFile: file("empty", "\n")}, []string{"empty: empty"}},
		"files that are not there": {
			registrator.Sidecars{TokenFile: "/no/token", CAFile: "/no/ca"}, []string{"/no/token", "/no/ca"},
		},
		"authorities that are none":   {registrator.Sidecars{CAFile: file("ca", "hello")}, []string{"no certificate in PEM"}},
		"a certificate without a key": {registrator.Sidecars{CertFile: "c"}, []string{`certificate file "c" and key file ""`}},
		"a certificate that is none":  {registrator.Sidecars{CertFile: file("c", "x"), KeyFile: file("k", "hush")}, []string{"certificate file"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := registrator.New(registrator.Config{Service: "api", Port: 1, Sidecars: c.sidecars})
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("New = %v, want %q in it", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("New = %v, want no secret in it", err)
			}
		})
	}
}

func TestTokenIsInNoDumpOfTheConfiguration(t *testing.T) {
	c := registrator.Config{Sidecars: registrator.Sidecars{Token: "hush"}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, c.Sidecars); strings.Contains(got, "hush") || strings.Contains(got, "68757368") {
			t.Errorf("%s: got %s", format, got)
		}
	}
	if got, err := json.Marshal(c.Sidecars); err != nil || strings.Contains(string(got), "hush") {
		t.Errorf("JSON: got %s, %v", got, err)
	}
}

// TestAccessToASidecar is over real connections, with real certificates.
func TestAccessToASidecar(t *testing.T) {
	drained := newSidecar("lb0")
	drained.drained, drained.token = true, "open-sesame"
	server := httptest.NewUnstartedServer(drained)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil) // of handshakes that are to fail
	server.StartTLS()
	t.Cleanup(server.Close)
	plain := httptest.NewServer(drained)
	t.Cleanup(plain.Close)

	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
		return path
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate := file("cert", "CERTIFICATE", server.Certificate().Raw)
	good := registrator.Sidecars{
		Token: "open-sesame", CAFile: certificate, CertFile: certificate, KeyFile: file("key", "PRIVATE KEY", key),
	}
	for name, c := range map[string]struct {
		change func(*registrator.Sidecars)
		plain  bool // it says that it has no TLS
		says   string
	}{
		"all that it wants":             {change: func(*registrator.Sidecars) {}},
		"by the name of its own":        {change: func(s *registrator.Sidecars) { s.ServerName = "example.com" }},
		"another name":                  {change: func(s *registrator.Sidecars) { s.ServerName = "example.org" }, says: "example.org"},
		"authorities that are not its":  {change: func(s *registrator.Sidecars) { s.CAFile = "" }, says: "unknown authority"},
		"no certificate":                {change: func(s *registrator.Sidecars) { s.CertFile, s.KeyFile = "", "" }, says: "certificate required"},
		"no token":                      {change: func(s *registrator.Sidecars) { s.Token = "" }, says: "--sidecar-token-file"},
		"no TLS where it is to be":      {change: func(*registrator.Sidecars) {}, plain: true, says: "no TLS"},
		"no TLS, and so no token":       {change: func(s *registrator.Sidecars) { s.CAFile = "" }, plain: true, says: "only over TLS"},
		"no TLS, and an address of TLS": {change: func(s *registrator.Sidecars) { s.CAFile = "" }, says: "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &agentFake{}
			config := fakeConfig(f)
			config.Sidecars = good
			c.change(&config.Sidecars)
			at, https := server.Listener.Addr().String(), true
			if c.plain {
				at, https = plain.Listener.Addr().String(), false
			}
			f.change(func() {
				f.sidecars = append(f.sidecars, entry("sc", at, contract.Sidecar{Balancer: "lb0", HTTPS: https, Unlisted: true}))
			})
			var got registrator.Drain
			config.OnDrain = func(l registrator.Drain) { got = l }
			r := registered(t, config)
			if err := r.Leave(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if c.says == "" && got.Outcome != registrator.OutcomeDrained {
				t.Errorf("got %+v, want it drained", got)
			}
			if c.says != "" && (got.Outcome != registrator.OutcomeWaited || !strings.Contains(got.Reason.Error(), c.says)) {
				t.Errorf("got %+v, want it to have waited, for %q", got, c.says)
			}
		})
	}
}

// TestNoGoroutineIsLeftByALeave: whatever the sidecars do, over real
// connections.
func TestNoGoroutineIsLeftByALeave(t *testing.T) {
	quit := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-quit:
		}
	}))
	defer hangs.Close()
	defer close(quit)
	done := newSidecar("lb1")
	done.drained = true
	answers := httptest.NewServer(done)
	defer answers.Close()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("net/http.(*conn).serve")) // the servers'

	f := &agentFake{}
	config := fakeConfig(f)
	config.LeaveWait, config.LeaveTimeout = 100*time.Millisecond, 500*time.Millisecond
	f.change(func() {
		f.sidecars = append(f.sidecars, balancer("lb0", hangs.Listener.Addr().String()), balancer("lb1", answers.Listener.Addr().String()), balancer("lb2", "127.0.0.1:1"))
	})
	began := time.Now()
	err := registered(t, config).Leave(t.Context(), nil)
	if err != nil {
		t.Errorf("Leave = %v, want no error: all had their time", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Leave took %v", took)
	}
}
