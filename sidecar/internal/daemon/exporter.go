package daemon

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// versionTimeout bounds how long HAProxy takes to say what it is built with.
const versionTimeout = 5 * time.Second

// checkExporter refuses haproxy.exporter.bind where the HAProxy of check_command says
// that it has no exporter: its own alert about the line does not say why. A
// check_command that is another program tells nothing.
func checkExporter(ctx context.Context, cfg config.Config) error {
	command := cfg.HAProxy.CheckCommand
	if cfg.HAProxy.Exporter.Bind == "" || len(command) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	says, err := exec.CommandContext(ctx, command[0], "-vv").Output() //nolint:gosec // the operator's own check_command
	if err != nil || !strings.HasPrefix(string(says), "HAProxy version") || strings.Contains(string(says), "prometheus-exporter") {
		return nil
	}
	version, _, _ := strings.Cut(string(says), "\n")
	return fmt.Errorf("haproxy.exporter.bind: this HAProxy is built without the Prometheus exporter: %s (%s -vv); leave the setting empty", version, command[0])
}
