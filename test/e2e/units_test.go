package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd accepts the units, and rates their sandboxes as good. What they do on a
// machine `make test-packages` tells.
func TestUnits_SystemdAnalyze_AcceptsThemAndTheirSandbox(t *testing.T) {
	t.Parallel()
	for unit, exposure := range map[string]string{"pointsman.service": "20", "api@.service": "40"} {
		text := read(t, filepath.Join("..", "..", "deploy", "systemd", unit))
		// The packages' programs are not on this machine.
		for _, program := range []string{"/usr/bin/pointsman", "/usr/bin/registrator"} {
			text = strings.ReplaceAll(text, program, "/bin/true")
		}
		path := filepath.Join(t.TempDir(), strings.Replace(unit, "@", "@4001", 1))
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"verify", "--man=no", path}, {"security", "--no-pager", "--offline=true", "--threshold=" + exposure, path}} {
			out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
			if err != nil || args[0] == "verify" && strings.Contains(string(out), filepath.Base(path)) {
				t.Errorf("%s: systemd-analyze %s: %v\n%s", unit, strings.Join(args, " "), err, out)
			}
		}
	}
}
