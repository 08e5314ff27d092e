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
	fence := regexp.MustCompile("(?s)```yaml\n(# sidecar.yaml\n.*?)```")
	n := 0
	for _, pattern := range []string{"../../../docs/*.md", "../../../docs/guides/*.md"} {
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
				if !strings.Contains(m[1], "\nservices:") {
					continue // a part
				}
				n++
				if _, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(m[1]), nil }}); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
	}
	if n < 3 {
		t.Errorf("%d settings files found, want 3 at least", n)
	}
}
