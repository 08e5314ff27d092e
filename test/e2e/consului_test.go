package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pointsman/pointsman/test/lab"
)

// The sample's Consul, started as compose.yaml starts it, leads from a service to its
// place on the sidecar's page.
func TestConsul_UIOfTheSample_LeadsToServiceOnThePage(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	content, err := os.ReadFile("../../compose/compose.yaml")
	w.must(err)
	var file struct {
		Services map[string]struct{ Command yaml.Node }
	}
	w.must(yaml.Unmarshal(content, &file))
	var command []string
	node := file.Services["consul"].Command
	w.must(node.Decode(&command))
	variable := regexp.MustCompile(`\$\{\w+:-(\w+)\}`) // Compose puts in the default
	for i, word := range command {
		command[i] = variable.ReplaceAllString(word, "$1")
	}
	// The sample's version, which may be another than that of the other tests.
	consul, err := filepath.Abs("../../.tools/bin/consul")
	if _, missing := os.Stat(consul); missing != nil {
		consul, err = exec.LookPath("consul")
	}
	w.must(err)
	command = append(command, "-bind=127.0.0.1", "-client=127.0.0.1", "-serf-wan-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1")
	var http int
	for _, flag := range []string{"-dns-port", "-server-port", "-serf-lan-port", "-http-port"} {
		http, err = w.Port()
		w.must(err)
		command = append(command, fmt.Sprintf("%s=%d", flag, http))
	}
	process, err := w.Start("consul-of-the-sample", consul, command...)
	w.must(err)
	w.must(lab.Until(w.ctx, 20*time.Second, "it answers", func() error {
		if !process.Running() {
			return fmt.Errorf("it has ended:\n%s", process.Tail(10))
		}
		return w.Get(w.ctx, fmt.Sprintf("http://127.0.0.1:%d/ui/", http), time.Second)
	}))
	const link = `"service": "http://localhost:9600/#/service/{{Service.Name}}"`
	if page := bodyOf(w.ctx, t, fmt.Sprintf("http://127.0.0.1:%d/ui/", http)); !strings.Contains(page, link) {
		t.Errorf("Consul's page does not have %s", link)
	}
}
