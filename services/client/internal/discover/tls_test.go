package discover_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/services/client/internal/discover"
)

// The certificate authority that the environment names was once left out: the
// clients of a Consul with TLS found nothing.
func TestTheCertificateAuthorityOfTheSettingsIsTrusted(t *testing.T) {
	consul := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", "7")
		_, _ = w.Write([]byte(`[{"Node":{"Address":"127.0.0.1"},"Service":{"ID":"lb0","Address":"127.0.0.1","Port":80}}]`))
	}))
	defer consul.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: consul.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	settings := api.DefaultConfig()
	settings.Address, settings.TLSConfig.CAFile = consul.URL, ca
	watch, err := discover.New(discover.Config{Consul: settings, Service: "lb", Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	targets, err := watch.First(t.Context())
	if err != nil || len(targets) != 1 || targets[0].Host != "127.0.0.1:80" {
		t.Errorf("got %v, %v, want lb0 at 127.0.0.1:80", targets, err)
	}
}
