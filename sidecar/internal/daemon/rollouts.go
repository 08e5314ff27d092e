package daemon

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/rollout"
)

// newOverlay lays the weights of rollouts over a source.
func newOverlay(cfg config.Config, source *consul.Source, log hclog.Logger) (*rollout.Overlay, error) {
	kv, err := consul.NewKV(ConsulOptions(cfg, log))
	if err != nil {
		return nil, err
	}
	return rollout.NewOverlay(source, kv, shared(cfg), log), nil
}

// shared is the backends whose services may have a rollout.
func shared(cfg config.Config) []rollout.Backend {
	out := make([]rollout.Backend, 0, len(cfg.Services))
	for _, s := range cfg.Services {
		b := rollout.Backend{Name: s.Backend, Service: s.Name, PreviewOf: s.Preview.Of}
		if b.PreviewOf == "" {
			b.Warning, b.Fixed = s.WarningTakesTraffic, fixedWeights(s)
		}
		out = append(out, b)
	}
	return out
}

// fixedWeights says why HAProxy takes only the weights 0 and 100 % of a service's servers
// at runtime, or heeds no other; "" where it takes all.
func fixedWeights(s config.Service) string {
	const only = ", so the only shares that it can have are 0 and 100"
	algorithm, _, _ := strings.Cut(s.Balance, " ")
	switch {
	case s.Static():
		return "balance " + s.Balance + " has no weights at runtime" + only + "; hash-type consistent in backend_extra has them"
	case algorithm == "first":
		return "balance first ignores weights" + only
	case slices.Contains(strings.Fields(s.Options().String()), "agent-check"):
		return "an agent check sets the weights" + only
	}
	return ""
}

// newMover moves rollouts by what the load balancers have counted.
func newMover(cfg config.Config, all *rollout.Overlay, state func() *reconcile.State, isPaused func(service string) bool, judge *canaryJudge, log hclog.Logger) (*rollout.Mover, error) {
	kv, err := consul.NewKV(ConsulOptions(cfg, log))
	if err != nil {
		return nil, err
	}
	running := func() map[string]*rollout.Document {
		if !state().HAProxy.Running {
			return nil // it cannot judge: another leads
		}
		running := all.Running()
		maps.DeleteFunc(running, func(service string, _ *rollout.Document) bool { return isPaused(service) })
		return running
	}
	return &rollout.Mover{KV: kv, Name: cfg.Name, Running: running, Now: time.Now, Log: log, Judge: judge.judge, Forget: judge.forget, Numbers: judge.numbers}, nil
}
