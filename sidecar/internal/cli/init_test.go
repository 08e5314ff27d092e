package cli

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func loadText(t *testing.T, yaml string) config.Config {
	t.Helper()
	cfg, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(yaml), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Without them the sidecar would not reach the Consul that init has asked.
func TestInit_SettingsOfConsul_AreWrittenWithoutSecrets(t *testing.T) {
	given := loadText(t, `services: []
consul:
  address: "https://consul.example:8501"
  token: "s3cret-token"
  http_auth: "ann:s3cret-password"
  ca_file: "/etc/consul/ca \"x\".pem"
  cert_file: /etc/consul/cert.pem
  key_file: /etc/consul/key.pem
  server_name: server.dc1.consul
  insecure_skip_verify: true
  datacenter: dc2
  namespace: web
  max_stale: 10s
  wait: 1m
haproxy: {base_config: /etc/haproxy/haproxy.cfg, config: /etc/haproxy/pointsman.cfg}
`)
	text := settingsText(given, initMatched{services: []initService{{name: "api"}}})
	if strings.Contains(text, "s3cret") || !strings.Contains(text, "# consul.token was given") || !strings.Contains(text, "# consul.http_auth was given") {
		t.Errorf("the secrets:\n%s", text)
	}
	got := loadText(t, text)
	given.Consul.Token, given.Consul.HTTPAuth = "", ""
	if got.Consul != given.Consul {
		t.Errorf("got %+v, want %+v:\n%s", got.Consul, given.Consul, text)
	}
	if text := settingsText(loadText(t, "services: []\nhaproxy: {base_config: /etc/haproxy/haproxy.cfg, config: /etc/haproxy/pointsman.cfg}\n"), initMatched{services: []initService{{name: "api"}}}); strings.Contains(text, "consul:") {
		t.Errorf("nothing was given:\n%s", text)
	}
}
