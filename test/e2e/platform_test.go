package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/lab"
)

// Issue 13: a service of Kubernetes called pointsman made every command exit
// with 2, by the variables that the platform sets for it in each container.
func TestPlatformVariables_ServiceCalledPointsman_PassedOverWithOneWarning(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	environ := []string{
		"POINTSMAN_PORT=tcp://10.0.0.1:9600", "POINTSMAN_PORT_9600_TCP=tcp://10.0.0.1:9600", "POINTSMAN_PORT_9600_TCP_PROTO=tcp",
		"POINTSMAN_PORT_9600_TCP_PORT=9600", "POINTSMAN_PORT_9600_TCP_ADDR=10.0.0.1",
		"POINTSMAN_SERVICE_HOST=10.0.0.1", "POINTSMAN_SERVICE_PORT=9600", "POINTSMAN_SERVICE_PORT_API=9600",
		// Also where a setting has the name.
		"POINTSMAN_REGISTRATION_PORT=tcp://10.0.0.2:80", "POINTSMAN_REGISTRATION_SERVICE_HOST=10.0.0.2",
	}
	const warning = "container platform's environment variables ignored"
	w.lb.SetEnviron(environ...)
	w.must(w.lb.Start(w.ctx))
	for _, args := range [][]string{{"check"}, {"plan"}, {"render"}, {"guard", "list"}} {
		out, code := sidecar(t, environ, append(args, "--config", w.lb.Settings())...)
		if code != 0 || strings.Count(out, warning) != 1 {
			t.Errorf("%v: exit code %d, want 0 and one warning:\n%s", args, code, out)
		}
	}
	w.must(w.lb.Reread())
	w.logged("configuration reloaded") // a second warning would be there before that
	log, err := os.ReadFile(w.Path("lb0-sidecar.log"))
	w.must(err)
	if got := strings.Count(string(log), warning); got != 1 {
		t.Errorf("the sidecar warns %d times, want once", got)
	}
	if out, code := sidecar(t, append(environ, "POINTSMAN_PORTS=1"), "check", "--config", w.lb.Settings()); code != 2 || !strings.Contains(out, "POINTSMAN_PORTS") {
		t.Errorf("a misspelt setting beside them: exit code %d, want 2:\n%s", code, out)
	}
}
