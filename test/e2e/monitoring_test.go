package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

const (
	alertsFile    = "../../deploy/prometheus/alerts.yml"
	alertsTests   = "../../deploy/prometheus/alerts_test.yml"
	dashboardFile = "../../deploy/grafana/pointsman.json"
)

// promtool runs Prometheus' own tool, which `make tools` provides.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	found, err := lab.Promtool()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), found, args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAlerts_Promtool_AcceptsRulesAndTheirTests(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", alertsFile)
	promtool(t, "test", "rules", alertsTests)
}

// What compose/monitoring.yaml mounts is there, and Prometheus takes its settings.
func TestMonitoring_ComposeOverlay_SettingsAreAcceptedAndFilesExist(t *testing.T) {
	t.Parallel()
	rules, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	const inContainer = "/etc/prometheus-rules/alerts.yml"
	settings := read(t, "../../compose/monitoring/prometheus.yml")
	if !strings.Contains(settings, inContainer) {
		t.Errorf("the settings do not name %s, where the overlay has the rules", inContainer)
	}
	path := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(path, []byte(strings.Replace(settings, inContainer, rules, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "config", path)
	mounts := regexp.MustCompile(`- (\./[^:\s]+):`).FindAllStringSubmatch(read(t, "../../compose/monitoring.yaml"), -1)
	if len(mounts) < 4 {
		t.Errorf("%d mounts found in the overlay, want 4 at least", len(mounts))
	}
	for _, m := range mounts {
		if _, err := os.Stat("../../" + m[1]); err != nil {
			t.Errorf("the overlay mounts what is not there: %v", err)
		}
	}
}

func TestAlerts_EachRule_HasATest(t *testing.T) {
	t.Parallel()
	names := func(expression, text string) (all []string) {
		for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	rules, tests := names(`(?m)^ +- alert: (\w+)$`, read(t, alertsFile)), names(`alertname="(\w+)"`, read(t, alertsTests))
	if len(rules) == 0 || !slices.Equal(rules, tests) {
		t.Errorf("rules: %v\ntests: %v", rules, tests)
	}
}

// metricsIn returns the metrics that a text of expressions names, each with the labels that
// it selects or groups by beside it.
func metricsIn(text string) map[string][]string {
	series := regexp.MustCompile(`\b((?:pointsman|haproxy|process|go)_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	label := regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	all := map[string][]string{}
	for _, m := range series.FindAllStringSubmatch(text, -1) {
		all[m[1]] = append(all[m[1]], "")
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "instance" && l[1] != "alertname" { // Prometheus adds it
				all[m[1]] = append(all[m[1]], l[1])
			}
		}
	}
	return all
}

// Every metric that an alert or the dashboard names, with its labels, is one that a
// running sidecar or HAProxy has. Else it would never fire, and never show anything.
func TestMonitoring_MetricsOfRulesAndDashboard_ExistInLiveMetrics(t *testing.T) {
	t.Parallel()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	port, err := w.Port()
	w.must(err)
	w.must(w.lb.SetHAProxy(fmt.Sprintf("  exporter: {bind: \"127.0.0.1:%d\"}\n", port)))
	w.must(w.lb.Start(w.ctx))
	w.nodes = w.startNodes("1.0", "n", 2)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(w.nodes...)...))
	w.must(w.Get(w.ctx, w.lb.URL(service), 5*time.Second))
	exporter := fmt.Sprintf("http://127.0.0.1:%d", port)
	live := bodyOf(w.ctx, t, w.lb.StatusURL()+"/metrics") + bodyOf(w.ctx, t, exporter+"/metrics")
	if code := codeOf(w.ctx, t, exporter+"/"); code != http.StatusNotFound {
		t.Errorf("HAProxy's exporter answers %d at /, want 404: only its path is served", code)
	}

	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	w.must(json.Unmarshal([]byte(read(t, dashboardFile)), &dashboard))
	expressions := read(t, alertsFile)
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expressions += "\n" + target.Expr
		}
	}
	wanted := metricsIn(expressions)
	if len(wanted) < 20 {
		t.Errorf("%d metrics found in rules and dashboard, want 20 at least", len(wanted))
	}
	for name, labels := range wanted {
		for _, label := range labels {
			pattern := `(?m)^` + name + `[{ ]`
			if label != "" {
				pattern = `(?m)^` + name + `\{(?:[^}]*,)?` + label + `="`
			}
			if !regexp.MustCompile(pattern).MatchString(live) {
				t.Errorf("no live metric %s with a label %q", name, label)
			}
		}
	}
}

func bodyOf(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	resp := httpGet(ctx, t, url)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
	}
	return "\n" + string(body)
}

func codeOf(ctx context.Context, t *testing.T, url string) int {
	t.Helper()
	resp := httpGet(ctx, t, url)
	defer resp.Body.Close()
	return resp.StatusCode
}

func httpGet(ctx context.Context, t *testing.T, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
