package consul_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/compat"
)

// count is of connections.
type count struct{ made, open int }

// counted serves the fake and counts the connections to it.
func counted(t *testing.T, f *consultest.Fake, start func(*httptest.Server)) (address string, connections func() count) {
	t.Helper()
	var mu sync.Mutex
	var n count
	s := httptest.NewUnstartedServer(f)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			n.made++
			n.open++
		case http.StateClosed, http.StateHijacked:
			n.open--
		default:
		}
	}
	s.EnableHTTP2 = true
	start(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL, func() count {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func fifty() []consul.Service {
	services := []consul.Service{{Name: "web"}}
	for len(services) < 50 {
		services = append(services, consul.Service{Name: fmt.Sprint("s", len(services))})
	}
	return services
}

func allKnown(s catalog.Snapshot) bool { return len(s.Services()) == 50 }

// blocked is whether the last query of each of the fifty has an index.
func blocked(f *consultest.Fake) error {
	last := make(map[string]string)
	for _, r := range f.Requests() {
		name, _, _ := strings.Cut(r, "?")
		last[name] = r
	}
	for _, s := range fifty() {
		if r := last["/v1/health/service/"+s.Name]; !strings.Contains(r, "index=") {
			return fmt.Errorf("the last query of %s is %q", s.Name, r)
		}
	}
	return nil
}

func TestServicesKeepTheirConnections(t *testing.T) {
	f := consultest.NewFake(t)
	other := start(t, f.Address(), consul.Options{}, consul.Service{Name: "none of the fifty"})
	address, connections := counted(t, f, (*httptest.Server).Start)
	w := start(t, address, consul.Options{}, fifty()...)
	w.await("all answers", allKnown)
	w.awaitHealthOf("blocked queries", func() error { return blocked(f) })
	w.awaitHealthOf("one connection each", func() error {
		if got := connections(); got.open != 50 {
			return fmt.Errorf("%+v connections for 50 services", got)
		}
		return nil
	})
	made, asked := connections().made, len(f.Requests())
	for i := range 20 {
		other.register(fmt.Sprint("a", i))
	}
	w.await("twenty", func(s catalog.Snapshot) bool { return len(s.Service("web").Instances) == 20 })
	if got := connections().made; got != made {
		t.Errorf("%d connections made by answers, want none", got-made)
	}
	for _, r := range f.Requests()[asked:] {
		if strings.HasPrefix(r, "/v1/health") && !strings.Contains(r, "index=") {
			t.Errorf("query %q starts from the beginning, want it to follow on", r)
		}
	}
}

func TestServiceThatGoesTakesItsQueryWithIt(t *testing.T) {
	f := consultest.NewFake(t)
	address, connections := counted(t, f, (*httptest.Server).Start)
	w := start(t, address, consul.Options{}, fifty()...)
	w.await("all answers", allKnown)
	w.awaitHealthOf("blocked queries", func() error { return blocked(f) })
	before := connections().open
	if err := w.SetServices(fifty()[:1]); err != nil {
		t.Fatal(err)
	}
	w.awaitHealthOf("end of 49 queries", func() error {
		if got := connections().open; got > before-49 {
			return fmt.Errorf("%d connections are open of %d", got, before)
		}
		return nil
	})
	if got := w.Snapshot().Services(); len(got) != 1 {
		t.Errorf("%d services known, want 1", len(got))
	}
}

// certificates writes the server's certificate and key, which also serve as CA
// and client certificate.
func certificates(t *testing.T, s *httptest.Server) (certificate, key string) {
	t.Helper()
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	private, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: s.Certificate().Raw},
		key:         {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

func TestServicesShareOneConnectionOverTLS(t *testing.T) {
	f := consultest.NewFake(t)
	var server *httptest.Server
	address, connections := counted(t, f, func(s *httptest.Server) {
		s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		server = s
	})
	certificate, key := certificates(t, server)
	w := start(t, f.Address(), consul.Options{}) // to register with, and no more
	secured, err := consul.New(consul.Options{
		Address: strings.TrimPrefix(address, "https://"), Scheme: "https",
		CAFile: certificate, CertFile: certificate, KeyFile: key, ServerName: "example.com",
	}, fifty())
	if err != nil {
		t.Fatal(err)
	}
	w.Source = secured
	go func() { _ = secured.Run(t.Context()) }()
	w.await("all answers", allKnown)
	w.register("a")
	w.await("one", are("a=passing"))
	// Those that start at once each open one, before the first is known to speak
	// HTTP/2; then they share.
	w.awaitHealthOf("shared connections", func() error {
		if got := connections(); got.open > 2 {
			return fmt.Errorf("%+v connections for 50 services", got)
		}
		return nil
	})
}

func TestTLSRefusesAnUnknownCertificate(t *testing.T) {
	f := consultest.NewFake(t)
	address, _ := counted(t, f, (*httptest.Server).StartTLS)
	w := start(t, f.Address(), consul.Options{})
	unknown, err := consul.New(consul.Options{Address: address}, []consul.Service{{Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	w.Source = unknown
	go func() { _ = unknown.Run(t.Context()) }()
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), "certificate") {
		t.Errorf("error = %q, want it to speak of the certificate", h.Err)
	}
}

// TestTooManyConnectionsNamesTheSetting: Consul's agent closes what is beyond
// its limit.
func TestTooManyConnectionsNamesTheSetting(t *testing.T) {
	p := consultest.StartProcess(t, `limits { http_max_conns_per_client = 20 }`)
	w := start(t, p.Address(), consul.Options{}, fifty()...)
	refusal := ""
	w.awaitHealthOf("refusal", func() error {
		for _, s := range fifty() {
			err := w.Health(s.Name).Err
			switch {
			case err == nil:
			case strings.Contains(err.Error(), "http_max_conns_per_client"):
				refusal = "status 429, which the error explains"
				return nil
			case consultest.IsOld(t) && strings.Contains(err.Error(), "EOF"):
				refusal = "closed, without an answer"
				return nil
			}
		}
		return fmt.Errorf("health of web is %+v", w.Health("web"))
	})
	compat.Consul(t, "a connection more than `http_max_conns_per_client`", refusal)
}
