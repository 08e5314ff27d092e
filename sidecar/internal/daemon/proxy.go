package daemon

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// Proxy is the HAProxy adapter as the agent wants it.
type Proxy struct {
	*haproxy.Client
	check  []string // the command that validates a file: its program tells the version
	socket string   // of the runtime API, for messages
	gate   *gate    // nil: any process is read, but none is changed
	spare  *spareMemory
}

var _ reconcile.HAProxy = Proxy{}

// NewProxy is the HAProxy of the settings. onCommand may be nil; it gets each command's
// kind, and whether it was refused.
func NewProxy(cfg config.Config, log hclog.Logger, onCommand func(string, bool)) (Proxy, error) {
	h := cfg.HAProxy
	c, err := haproxy.New(haproxy.Options{
		Runtime: h.Socket, Master: h.MasterSocket, ReloadCommand: h.ReloadCommand,
		Timeout: h.Timeout, ReloadTimeout: h.ReloadTimeout, Logger: log, OnCommand: onCommand,
	})
	return Proxy{Client: c, check: h.CheckCommand, socket: h.Socket, spare: newSpareMemory()}, err
}

// Observe reads a process that may be read.
func (p Proxy) Observe(ctx context.Context, backends []string) (plan.Observed, error) {
	p.spare.use(time.Now())
	o, err := p.Client.Observe(ctx, backends)
	return p.admitted(ctx, o, err)
}

// Compare is Observe beside the loop. What it has taken for a moment is given back
// without it waiting for that: how long a comparison takes says when the next one is due.
func (p Proxy) Compare(ctx context.Context, backends []string) (plan.Observed, error) {
	o, err := p.Client.Observe(ctx, backends)
	go p.spare.giveBack(time.Now())
	return p.admitted(ctx, o, err)
}

func (p Proxy) admitted(ctx context.Context, o plan.Observed, err error) (plan.Observed, error) {
	if err == nil && p.gate != nil {
		err = p.gate.admit(ctx, p, o)
	}
	if err != nil {
		return plan.Observed{}, err
	}
	return o, nil
}

// OldWorkers counts them; without a master socket there is no process to ask.
func (p Proxy) OldWorkers(ctx context.Context) (int, error) {
	workers, err := p.Client.OldWorkers(ctx)
	if errors.Is(err, haproxy.ErrNoMaster) {
		return 0, nil
	}
	return len(workers), err
}

// Capabilities asks the program that validates the file for its version.
func (p Proxy) Capabilities(ctx context.Context) plan.Capabilities {
	if len(p.check) == 0 || filepath.Base(p.check[0]) != "haproxy" {
		return plan.Capabilities{}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, p.check[0], "-v").Output()
	if err != nil {
		return plan.Capabilities{}
	}
	return haproxy.ProgramCapabilities(string(out))
}
