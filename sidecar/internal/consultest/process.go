package consultest

import (
	"testing"

	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

// Process is a real Consul, an agent and a server in one. It keeps its state in memory: what
// a restart starts has forgotten all.
type Process struct {
	t      testing.TB
	consul *lab.Consul
}

// IsOld reports whether the Consul under test is older than 1.14.
func IsOld(t testing.TB) bool {
	t.Helper()
	path, err := lab.FindConsul()
	if err != nil {
		t.Fatal(err)
	}
	flags, err := lab.WithoutGRPCTLS(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return len(flags) == 0
}

// StartProcess starts Consul and returns once it has a leader. The process
// ends with the test. Each hcl is a fragment of configuration, as for -hcl.
func StartProcess(t testing.TB, hcl ...string) *Process {
	t.Helper()
	p := &Process{t, proctest.PrepareConsul(t)}
	for _, fragment := range hcl {
		p.consul.Flags = append(p.consul.Flags, "-hcl", fragment)
	}
	p.must(p.consul.Restart(t.Context()))
	return p
}

func (p *Process) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// Address is host:port of its HTTP API and UI.
func (p *Process) Address() string { return p.consul.Address() }

// Kill ends it by SIGKILL, and returns when it has ended.
func (p *Process) Kill() { p.t.Helper(); p.must(p.consul.Kill()) }

// Restart starts it again on the same ports, after a Kill or by one of its
// own, and returns once it has a leader. It knows nothing of before.
func (p *Process) Restart() {
	p.t.Helper()
	if p.consul.Running() {
		p.Kill()
	}
	p.must(p.consul.Restart(p.t.Context()))
}
