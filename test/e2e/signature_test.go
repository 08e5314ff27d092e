package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// Issue 14: a node that has the sidecars' key leaves on their word; one that has
// another key does not believe them, and gets its wait.
func TestSigningKey_NodeWithIt_BelievesTheSidecarOnly(t *testing.T) {
	t.Parallel()
	python, err := lab.Python()
	if err != nil {
		t.Fatal(err)
	}
	w := bareWorld(t)
	w.must(os.WriteFile(w.Path("abrupt.py"), []byte(abrupt), 0o644))
	right, wrong := w.Path("right"), w.Path("wrong")
	w.must(os.WriteFile(right, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600))
	w.must(os.WriteFile(wrong, []byte(strings.Repeat("fedcba9876543210", 4)), 0o600))
	w.newBalancer(lab.Service{Name: "web", Extra: "    check: {path: /healthz}\n"})
	w.lb.SetEnviron("POINTSMAN_API_SIGNING_KEY_FILE=" + right)
	w.must(w.lb.Start(w.ctx))
	for name, c := range map[string]struct{ key, says string }{
		"right":   {right, "outcome=drained"},
		"another": {wrong, "answer signed with another key"},
	} {
		p, err := w.StartWrapped(w.consul, "web", name, []string{"--sidecar-signing-key-file", c.key}, func(port int) []string {
			return []string{python, "-u", w.Path("abrupt.py"), fmt.Sprint(port), name}
		})
		w.must(err)
		w.must(w.lb.Routes(w.ctx, 20*time.Second, "web", name))
		w.must(p.Terminate())
		if err := p.Wait(30 * time.Second); err != nil && p.ExitCode() != 143 { // by SIGTERM
			t.Error(err)
		}
		if log := p.Tail(50); !strings.Contains(log, c.says) {
			t.Errorf("%s: want %q in the log, got\n%s", name, c.says, log)
		}
	}
}
