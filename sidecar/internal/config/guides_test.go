package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// Each whole settings file on a page is one that Load takes.
func TestPages_SettingsFiles_AreValid(t *testing.T) {
	fence := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	n := 0
	for _, pattern := range []string{"../../../README.md", "../../../docs/*.md", "../../../docs/guides/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
				if !strings.Contains("\n"+m[1], "\nservices:") {
					continue // a part
				}
				n++
				if _, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(m[1]), nil }}); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d settings files found, want 20 at least", n)
	}
}

// The settings in the Nomad job are ones that Load takes, with Nomad's words filled in.
func TestNomadJob_Settings_AreValid(t *testing.T) {
	job, err := os.ReadFile("../../../deploy/nomad/sidecar.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)<<-EOT\n(.*?)\n *EOT\n`).FindSubmatch(job)
	if m == nil {
		t.Fatal("no settings found")
	}
	text := strings.NewReplacer(
		`{{ env "node.unique.name" }}`, "node1", `{{ env "NOMAD_ADDR_pointsman" }}`, "10.0.0.1:9600", `{{ env "NOMAD_ALLOC_DIR" }}`, "/alloc",
	).Replace(string(m[1]))
	cfg, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
	if err != nil || len(cfg.Services) == 0 {
		t.Errorf("%v\n%s", err, text)
	}
}
