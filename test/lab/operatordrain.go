package lab

import (
	"context"
	"fmt"
	"os/exec"
)

// Operate runs a command of the operator's with this load balancer's settings, such as
// `drain SERVER`, and gives what it says.
func (b *Balancer) Operate(ctx context.Context, args ...string) (string, error) {
	b.lab.logf("%-10s %s", b.Name, args)
	out, err := exec.CommandContext(ctx, b.lab.programs.Sidecar, append(args, "--config", b.Settings())...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("lab: %s: %s: %w: %s", b.Name, args, err, out)
	}
	return string(out), nil
}
