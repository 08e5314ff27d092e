package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// `plan --diff` shows how haproxy.cfg on disk differs from what would be written, and
// nothing where it does not.
func TestPlanDiff_FileEditedByHand_ShowsTheLines(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service})
	w.must(w.lb.Start(w.ctx))
	_, err := w.StartNode(w.ctx, w.consul, service, "api-1", "1.0")
	w.must(err)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, "api-1"))
	w.must(lab.Until(w.ctx, 20*time.Second, "the file is what would be written", func() error {
		out, err := w.lb.Operate(w.ctx, "plan", "--diff", "--exit-code")
		if err == nil && strings.Contains(out, "diff ") {
			err = os.ErrInvalid
		}
		return err
	}))
	w.must(w.lb.Sidecar.Stop(10 * time.Second))
	content, err := os.ReadFile(w.lb.Config())
	w.must(err)
	edited := strings.Replace(string(content), "\nglobal\n", "\nglobal\n    maxconn 7 \x1b[2J\n", 1)
	w.must(os.WriteFile(w.lb.Config(), []byte(edited), 0o600))
	out, err := w.lb.Operate(w.ctx, "plan", "--diff")
	w.must(err)
	if !strings.Contains(out, "\n-    maxconn 7 ·[2J\n") || !strings.Contains(out, "\n+++ "+w.lb.Config()+" (rendered)\n") || strings.Contains(out, "\x1b") {
		t.Errorf("the line by hand is not shown:\n%s", out)
	}
	if out, err = w.lb.Operate(w.ctx, "plan", "--diff", "--json"); err != nil || !strings.Contains(out, `"diff": "diff `) {
		t.Errorf("no diff in the JSON (%v):\n%s", err, out)
	}
}
