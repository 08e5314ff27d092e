package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Maintenance is what `pointsman maintenance --json` says.
type Maintenance struct {
	LoadBalancer string  `json:"load_balancer"`
	Maintenance  bool    `json:"maintenance"`
	UnderWay     int     `json:"under_way"`
	Quiet        bool    `json:"quiet"`
	InFile       *bool   `json:"in_file"`
	Waited       float64 `json:"waited_seconds"`
}

// Maintenance runs `pointsman maintenance` with a word (on, off or status) and
// perhaps flags. The exit code is an error unless it is 0; what was printed is
// given all the same.
func (b *Balancer) Maintenance(ctx context.Context, word string, flags ...string) (Maintenance, error) {
	args := append([]string{"maintenance", word, "--json", "--config", b.Settings()}, flags...)
	b.lab.logf("%-10s maintenance %s", b.Name, strings.Join(append([]string{word}, flags...), " "))
	out, runErr := exec.CommandContext(ctx, b.lab.programs.Sidecar, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](runErr); ok {
		runErr = fmt.Errorf("lab: %s: maintenance %s: %w: %s", b.Name, word, exit, exit.Stderr)
	}
	var m Maintenance
	if len(out) == 0 {
		return m, runErr
	}
	if err := json.Unmarshal(out, &m); err != nil {
		return m, errors.Join(runErr, fmt.Errorf("lab: %s: maintenance %s: %w: %s", b.Name, word, err, out))
	}
	return m, runErr
}

// Joined waits until Consul lists the load balancer, as one of the service that
// it has joined, with this health; "" is not at all.
func (b *Balancer) Joined(ctx context.Context, limit time.Duration, health string) error {
	return b.consul.lists(ctx, limit, b.Name, b.joined, health, func(s *api.AgentService) bool { return s.Meta["pointsman-lb"] == b.Name })
}

// Requests is how many requests HAProxy has begun to send to a backend's
// servers, in the current worker.
func (b *Balancer) Requests(ctx context.Context, backend string) (int, error) {
	out, err := b.Runtime(ctx, "show stat "+backend+" 2 -1")
	if err != nil {
		return 0, err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		return 0, fmt.Errorf("lab: show stat %s: %q", backend, out)
	}
	values := strings.Split(lines[1], ",")
	for i, column := range strings.Split(strings.TrimPrefix(lines[0], "# "), ",") {
		if column == "stot" && i < len(values) {
			var n int
			_, err := fmt.Sscan(values[i], &n)
			return n, err
		}
	}
	return 0, errors.New("lab: show stat without stot")
}

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
