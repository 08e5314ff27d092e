//go:build compose

package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ownSettings gives the stack a copy of compose/sidecar/ that a test may edit.
func ownSettings(t *testing.T) (dir string, files []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pm-settings-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary directory
	content, err := os.ReadFile("../../../compose/sidecar/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	override := fmt.Sprintf("services:\n  lb0-sidecar: &own\n    volumes: [\"%s:/etc/pointsman:ro\"]\n  lb1-sidecar: *own\n", dir)
	path := filepath.Join(dir, "override.yaml")
	for name, text := range map[string]string{filepath.Join(dir, "sidecar.yaml"): string(content), path: override} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, []string{"compose.yaml", path}
}

// edit changes the settings and makes both sidecars read them.
func (s *stack) edit(dir, old, replacement string) {
	s.Helper()
	path := filepath.Join(dir, "sidecar.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	if !strings.Contains(string(content), old) {
		s.Fatalf("%q is not in the settings", old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), old, replacement, 1)), 0o644); err != nil {
		s.Fatal(err)
	}
	s.compose("kill", "--signal", "HUP", "lb0-sidecar", "lb1-sidecar")
}

func TestAServiceIsAddedBySeamlessReload(t *testing.T) {
	dir, files := ownSettings(t)
	s := startStack(t, files)
	s.edit(dir, "services:\n", "services:\n  - name: web\n    bind: \"*:8090\"\n")
	for _, lb := range []string{"lb0", "lb1"} {
		s.until(30*time.Second, lb+" has the service", func() error {
			st, err := s.state(lb)
			if err != nil {
				return err
			}
			if st.Reloads.Succeeded != 1 || len(st.Services) != 2 {
				return fmt.Errorf("%+v, %d services", st.Reloads, len(st.Services))
			}
			return nil
		})
	}
	s.routes(20*time.Second, "1.0", 3)
	s.hold(3 * time.Second)
	reloads := s.reloads("lb0") + s.reloads("lb1")
	if reloads != 2 {
		t.Errorf("%d reloads, want one each", reloads)
	}
	s.mustLoseNothing("a new service added, by seamless reload", reloads)
}

func TestTemplate_HAProxyRejectsIt_IsReplaced(t *testing.T) {
	dir, files := ownSettings(t)
	s := startStack(t, files)
	built, err := os.ReadFile("../../../templates/haproxy.cfg.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	template := filepath.Join(dir, "my.tmpl")
	if err := os.WriteFile(template, append(built, "\nbackend more\n    ballance roundrobin\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	s.edit(dir, "haproxy:\n", "haproxy:\n  template: /etc/pointsman/my.tmpl\n")
	s.until(30*time.Second, "lb0 tells of the rejection", func() error {
		st, err := s.state("lb0")
		if err == nil && !strings.Contains(st.Reloads.Error, "ballance") {
			err = fmt.Errorf("%+v", st.Reloads)
		}
		return err
	})
	s.deploy("1.1") // it stops nothing
	if err := os.WriteFile(template, append(built, "\n# corrected\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	s.compose("kill", "--signal", "HUP", "lb0-sidecar", "lb1-sidecar")
	for _, lb := range []string{"lb0", "lb1"} {
		s.until(30*time.Second, lb+" has loaded the corrected template", func() error {
			st, err := s.state(lb)
			if err == nil && (st.Reloads.Succeeded != 1 || st.Reloads.Error != "") {
				err = fmt.Errorf("%+v", st.Reloads)
			}
			return err
		})
	}
	s.routes(20*time.Second, "1.1", 3)
	s.mustLoseNothing("a template that HAProxy rejects, then corrected", s.reloads("lb0")+s.reloads("lb1"))
}
