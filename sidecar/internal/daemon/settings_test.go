package daemon

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// loaded is the settings of a file with this text.
func loaded(t *testing.T, yaml string) config.Config {
	t.Helper()
	cfg, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(yaml), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// fileOf is haproxy.cfg with these servers.
func fileOf(t *testing.T, cfg config.Config, backends []plan.FileBackend) string {
	t.Helper()
	r, err := NewRenderer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	content, err := r.Render(backends)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
