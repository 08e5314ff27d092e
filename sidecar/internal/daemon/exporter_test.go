package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestExporter_HAProxyBuiltWithoutIt_Refused(t *testing.T) {
	program := func(says string) string {
		path := filepath.Join(t.TempDir(), "haproxy")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n[ \"$1\" = -vv ] && cat <<'END'\n"+says+"\nEND\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const version = "HAProxy version 3.2.1 2026/01/01"
	for name, c := range map[string]struct {
		bind, says string
		refused    bool
	}{
		"built without it":      {"127.0.0.1:8406", version + "\nAvailable services : none", true},
		"built with it":         {"127.0.0.1:8406", version + "\nAvailable services : prometheus-exporter", false},
		"another program":       {"127.0.0.1:8406", "docker: unknown flag", false},
		"no exporter is set up": {"", version + "\nAvailable services : none", false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Config{HAProxy: config.HAProxy{CheckCommand: []string{program(c.says), "-c", "-f", "{file}"}, Exporter: config.Endpoint{Bind: c.bind}}}
			err := checkExporter(t.Context(), cfg)
			if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "haproxy.exporter.bind: this HAProxy is built without the Prometheus exporter: "+version) {
				t.Errorf("got %v, refused %v", err, c.refused)
			}
		})
	}
}
