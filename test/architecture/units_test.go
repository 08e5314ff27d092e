package architecture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without that systemd gives up after five quick exits, and the unit stays down when
// Consul or a port is there again.
func TestUnits_ThatRestart_DoSoForEver(t *testing.T) {
	units, err := filepath.Glob(root + "/deploy/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, _ := strings.Cut(string(text), "\n[Service]\n")
		if strings.Contains(rest, "\nRestart=") && (!strings.Contains(head, "\nStartLimitIntervalSec=0\n") || !strings.Contains(rest, "\nRestartSec=1\n")) {
			t.Errorf("%s: want StartLimitIntervalSec=0 in [Unit], and RestartSec=1", unit)
		}
	}
}
