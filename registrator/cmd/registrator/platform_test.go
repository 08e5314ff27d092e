//go:build linux

package main_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Issue 13: a service of Kubernetes called registrator, and one of its own
// settings' name.
func TestPlatformVariables_ServiceCalledRegistrator_PassedOverWithOneWarning(t *testing.T) {
	c := sharedConsul(t)
	port := freePort(t)
	id := "platform-" + strconv.Itoa(port)
	env := append(c.env(), "REGISTRATOR_PORT=tcp://10.0.0.1:80", "REGISTRATOR_PORT_80_TCP=tcp://10.0.0.1:80", "REGISTRATOR_PORT_80_TCP_ADDR=10.0.0.1",
		"REGISTRATOR_SERVICE_HOST=10.0.0.1", "REGISTRATOR_SERVICE_PORT=80", "REGISTRATOR_ID="+id, "REGISTRATOR_LEAVE_WAIT=1ms")
	p := start(t, env, wrap(port, nil)...)
	if e := c.registered(t, "api", id); e.Service.Port != port {
		t.Errorf("registered at port %d, want %d", e.Service.Port, port)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	const warning = "container platform's environment variables ignored"
	if log := p.Stderr.String(); strings.Count(log, warning) != 1 {
		t.Errorf("log: got %s, want one warning", log)
	}
	// Without the flag the port is missing, which is said as such.
	if code, p := run(t, nil, env, "run", "--service", "api", "--", child.Path); code != 2 || !strings.Contains(p.Stderr.String(), "--port (REGISTRATOR_PORT): required") {
		t.Errorf("exit code %d, %s, want 2 and what is missing", code, &p.Stderr)
	}
}
