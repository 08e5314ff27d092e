package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// Consul says that the node is well, and HAProxy's own check gets a 404 from it.
func TestServerDown_HAProxysCheckGets404_StateLogAndPlanSayWhy(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	var err error
	w.lb, err = w.NewBalancer("lb0", w.consul, lab.Service{Name: service, Backend: "api_nodes", Extra: "    check: {path: /nowhere}\n"})
	w.must(err)
	w.must(w.lb.Start(w.ctx))
	w.nodes = w.startNodes("1.0", "old", 1)
	const why = "L7STS 404: GET /nowhere → 404"
	w.must(lab.Until(w.ctx, 20*time.Second, "the state says why", func() error {
		state, err := w.lb.StateJSON(w.ctx)
		if err == nil && !bytes.Contains(state, []byte(why)) {
			err = fmt.Errorf("%s", state)
		}
		return err
	}))
	if out, err := w.lb.Operate(w.ctx, "plan"); err != nil || !strings.Contains(out, "for check") || !strings.Contains(out, why) {
		t.Errorf("plan said %q, %v, want %q", out, err, why)
	}
	w.logged("[WARN]", "server down", "check=L7STS", "code=404", "url=/nowhere")
}
