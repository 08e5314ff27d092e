package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// The demo itself, with fewer requests. Its exit code is the verdict: no failed request,
// no reload of the deployment, and for the backend of the service that registers itself
// none on HAProxy 3.4, and one before.
func TestDemo_SecondServiceRegisters_ServedByItsHost(t *testing.T) {
	t.Parallel()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	demo := exec.CommandContext(t.Context(), "go", "run", "./test/lab/cmd/demo", "--once", "--requests", "1500", "--rate", "20")
	demo.Dir = root
	demo.WaitDelay = 10 * time.Second
	demo.Cancel = func() error { return demo.Process.Signal(os.Interrupt) } // it ends what it has started
	var words bytes.Buffer
	demo.Stderr = &words
	line, err := demo.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, words.String())
	}
	var result struct {
		Requests int     `json:"requests"`
		Failed   *int    `json:"failed"`
		Reloads  int     `json:"reloads_total"`
		Routed   float64 `json:"routed_seconds"`
		HAProxy  string  `json:"haproxy"`
	}
	if err := json.Unmarshal(line, &result); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	reloads := 1
	if strings.HasPrefix(result.HAProxy, "3.4.") {
		reloads = 0
	}
	if result.Requests < 1500 || result.Failed == nil || *result.Failed != 0 || result.Reloads != reloads || result.Routed <= 0 {
		t.Errorf("got %s", line)
	}
}
