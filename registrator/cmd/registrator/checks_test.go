//go:build linux

package main_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/certtest"
)

// agentSays waits until the agent has made the instance's check itself, and gives
// what came of it.
func (c consul) agentSays(t *testing.T, id string) (status, output string) {
	t.Helper()
	eventually(t, "run of the agent's check", func() bool {
		checks, err := c.Client.Agent().ChecksWithFilter("ServiceID == \"" + id + "\"")
		if err != nil {
			t.Fatal(err)
		}
		for _, check := range checks {
			status, output = check.Status, check.Output
		}
		return output != ""
	})
	return status, output
}

// Each check must pass for the wrapper and then for a real agent, and fail for
// both while the program is not healthy.
func TestChecks_EachKind_PassesForWrapperAndAgent(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	authority := certtest.New(t)
	authority.Sign("web.test")
	withTLS := []string{"--cert", authority.Path("web.test.pem"), "--key", authority.Path("web.test-key.pem")}
	for name, k := range map[string]struct{ flags, child []string }{
		"Host header":                {[]string{"--check", "http:/healthz", "--check-host", "web.test"}, []string{"--only-host", "web.test"}},
		"HTTPS without verification": {[]string{"--check", "https:/healthz", "--check-skip-verify"}, withTLS},
		"gRPC":                       {[]string{"--check", "grpc:a.b"}, []string{"--grpc", "a.b"}},
		"gRPC with TLS":              {[]string{"--check", "grpcs:a.b", "--check-skip-verify"}, append([]string{"--grpc", "a.b"}, withTLS...)},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			id := "check-" + strconv.Itoa(port)
			healthy := filepath.Join(t.TempDir(), "healthy")
			p := start(t, c.env(), wrap(port, append([]string{"--id", id, "--leave-wait", "1ms"}, k.flags...), append([]string{"--healthy", healthy}, k.child...)...)...)
			p.logs("program not ready")
			if c.entry(t, "api", id) != nil {
				t.Error("it is registered while it is not healthy")
			}
			if err := os.WriteFile(healthy, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.registered(t, "api", id)
			status, output := c.agentSays(t, id)
			if status != api.HealthPassing {
				t.Errorf("the agent says %s: %s", status, output)
			}
			if err := os.Remove(healthy); err != nil {
				t.Fatal(err)
			}
			eventually(t, "failure of the agent's check", func() bool {
				return c.entry(t, "api", id).Checks.AggregatedStatus() == api.HealthCritical
			})
		})
	}
}

// A certificate that the agent does not trust: no traffic, and the agent's own
// words say why.
func TestChecks_UntrustedCertificate_NeverPassing(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	authority := certtest.New(t)
	authority.Sign("web.test")
	port := freePort(t)
	id := "untrusted-" + strconv.Itoa(port)
	seen := c.record(t, id)
	start(t, c.env(), wrap(port, []string{"--id", id, "--check", "https:/healthz"}, "--cert", authority.Path("web.test.pem"), "--key", authority.Path("web.test-key.pem"))...)
	if status, output := c.agentSays(t, id); status != api.HealthCritical || !strings.Contains(output, "certificate") {
		t.Errorf("the agent says %s: %s, want critical and why", status, output)
	}
	if got := seen(); slices.Contains(got, api.HealthPassing) {
		t.Errorf("a watcher saw %q, want it never passing", got)
	}
}

// Issue 13: with Consul at [::1] the wrapper asked at 127.0.0.1 for ever.
func TestChecks_NoAddress_AskedWhereProgramListens(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			port := freePort(t)
			id := "listens-" + strconv.Itoa(port)
			healthy := filepath.Join(t.TempDir(), "healthy")
			at := net.JoinHostPort(host, strconv.Itoa(port))
			p := start(t, c.env(), "run", "--service", "api", "--port", strconv.Itoa(port), "--id", id, "--check", "http:/healthz", "--",
				child.Path, "serve", "--listen", at, "--healthy", healthy)
			p.logs("status 503")
			if err := os.WriteFile(healthy, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.registered(t, "api", id)
			if status, output := c.agentSays(t, id); status != api.HealthPassing || !strings.Contains(output, at) {
				t.Errorf("the agent says %s: %s, want passing at %s", status, output, at)
			}
			tried := regexp.MustCompile(`program not ready: reason=.*127\.0\.0\.1:` + strconv.Itoa(port) + `.*\[::1\]:` + strconv.Itoa(port))
			if log := p.Stderr.String(); !tried.MatchString(log) {
				t.Errorf("log: got %s, want all that is tried", log)
			}
		})
	}
}
