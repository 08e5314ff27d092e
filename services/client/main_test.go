package main_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pointsman/pointsman/test/proctest"
)

var built = &proctest.Built{Source: "."}

func TestMain(m *testing.M) { os.Exit(proctest.Main(m, built)) }

// api answers as a node of the demo API does.
func api(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(server.Close)
	return server
}

func answer(w http.ResponseWriter, r *http.Request) {
	body := map[string]any{"instance": "api1", "version": "1.0", "requests": 1, "id": r.URL.Query().Get("id")}
	if r.Method == http.MethodPost {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		if err != nil {
			return
		}
		body["length"], body["sha256"] = n, hex.EncodeToString(hash.Sum(nil))
	}
	w.Header().Set("X-Api-Instance", "api1")
	w.Header().Set("X-Api-Version", "1.0")
	_ = json.NewEncoder(w).Encode(body)
}

func start(t *testing.T, env []string, args ...string) *proctest.Process {
	t.Helper()
	env = append([]string{"CLIENT_EXPECT_ECHO=true", "CLIENT_POST_SHARE=0.2"}, env...) // of the sample's API
	return proctest.Start(t, env, built.Path, args...)
}

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	proctest.Until(t, 10*time.Second, what, fact)
}

type report struct {
	Name             string            `json:"name"`
	Requests         int               `json:"requests"`
	Failed           int               `json:"failed"`
	Failures         map[string]int    `json:"failures"`
	FailedIdempotent int               `json:"failed_idempotent"`
	FailedPost       int               `json:"failed_post"`
	Rate             float64           `json:"rate"`
	P50              float64           `json:"p50_ms"`
	P90              float64           `json:"p90_ms"`
	P99              float64           `json:"p99_ms"`
	Max              float64           `json:"max_ms"`
	Versions         map[string]int    `json:"versions"`
	Instances        map[string]int    `json:"instances"`
	Seconds          float64           `json:"seconds"`
	Started          time.Time         `json:"started"`
	Series           []json.RawMessage `json:"latency_series"`
}

// parse reads a report, and fails on a field that isn't known here.
func parse(t *testing.T, text string) report {
	t.Helper()
	var r report
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("report %q: %v", text, err)
	}
	return r
}

func TestRunWithoutAFailureExitsZeroAndReports(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	c := start(t, nil, "--target", api(t).URL, "--rate", "100", "--duration", "1500ms", "--name", "client0",
		"--json", "--report", file)
	if got := c.Wait(); got != 0 {
		t.Fatalf("exit code: got %d, want 0; stderr:\n%s", got, c.Stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(c.Stdout.String()), "\n")
	r := parse(t, lines[len(lines)-1])
	if r.Name != "client0" || r.Requests != 150 || r.Failed != 0 || r.Versions["1.0"] != 150 || r.Instances["api1"] != 150 || r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || len(r.Series) != 2 {
		t.Errorf("report: got %+v, want 150 successes with latencies, in 2 seconds", r)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != lines[len(lines)-1]+"\n" {
		t.Errorf("report file: got %q, %v, want the same as on stdout", text, err)
	}
	if !regexp.MustCompile(`^client0    1s  [1-9]\d* requests  0 failed .* 1\.0 100%$`).MatchString(lines[0]) {
		t.Errorf("progress: got %q, want a plain line that tells of the first second", lines[0])
	}
	if got := strings.Count(c.Stderr.String(), `"msg":"first response from api1 version 1.0"`); got != 1 {
		t.Errorf("first response: got %d lines, want 1; stderr:\n%s", got, c.Stderr.String())
	}
}

func TestSettingsComeFromTheEnvironmentToo(t *testing.T) {
	c := start(t, []string{
		"CLIENT_TARGET=" + api(t).URL, "CLIENT_DURATION=200ms", "CLIENT_NAME=client7", "CLIENT_JSON=true",
		"CLIENT_PROGRESS=none", "CLIENT_LOG_FORMAT=console", "CLIENT_IDEMPOTENT_ONLY=true", "CLIENT_LOG_FIRST=false",
	})
	if got := c.Wait(); got != 0 {
		t.Fatalf("exit code: got %d, want 0; stderr:\n%s", got, c.Stderr.String())
	}
	if r := parse(t, c.Stdout.String()); r.Name != "client7" || r.Requests != 20 {
		t.Errorf("report: got %+v, want 20 requests by client7", r)
	}
	if !strings.Contains(c.Stderr.String(), "INFO\tstopped") || strings.Contains(c.Stderr.String(), "first response") {
		t.Errorf("log: got %q, want console lines without first responses", c.Stderr.String())
	}
}

func TestAFailedRequestExitsOneWithTimeTargetMethodAndCause(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Error(w, "no server is available", http.StatusServiceUnavailable)
			return
		}
		answer(w, r)
	}))
	defer server.Close()
	c := start(t, nil, "--target", server.URL, "--rate", "50", "--duration", "1s", "--post-share", "0.5", "--json", "--progress", "none")
	if got := c.Wait(); got != 1 {
		t.Errorf("exit code: got %d, want 1", got)
	}
	r := parse(t, c.Stdout.String())
	if r.FailedPost == 0 || r.FailedIdempotent != 0 || r.Failed != r.FailedPost || r.Failures["status"] != r.Failed {
		t.Errorf("report: got %+v, want every POST and nothing else failed by status", r)
	}
	logged := 0
	for line := range strings.Lines(c.Stderr.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if entry["msg"] != "request failed" {
			continue
		}
		logged++
		detail, _ := entry["detail"].(string)
		if entry["cause"] != "status" || entry["method"] != "POST" || entry["target"] != server.URL+"/" || entry["failed"] == nil || !strings.Contains(detail, "503 Service Unavailable: \"no server is available") {
			t.Errorf("failure: got %s, want time, target, method, cause and detail", line)
		}
	}
	if want := min(r.Failed, 10); logged < want || logged > 20 {
		t.Errorf("failures logged: got %d of %d, want all up to 10 a second", logged, r.Failed)
	}
}

func TestMalformedSettingsExitTwoAndAreAllNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want []string
	}{
		{"no target", nil, nil, []string{"--target (CLIENT_TARGET)"}},
		{"target", nil, []string{"--target", "lb0:80"}, []string{"--target (CLIENT_TARGET)", `"lb0:80"`}},
		{"unknown flag", nil, []string{"--raet", "1"}, []string{"--raet"}},
		{"flag", nil, []string{"--rate", "fast"}, []string{"--rate", `"fast"`}},
		{"environment", []string{"CLIENT_RATE=fast", "CLIENT_TIMEOUT=5"}, nil, []string{`CLIENT_RATE="fast"`, `CLIENT_TIMEOUT="5"`}},
		{"range", []string{"CLIENT_POST_SHARE=20"}, []string{"--target", "http://lb0/", "--rate", "0", "--name", "a\nb"}, []string{"--post-share (CLIENT_POST_SHARE): 20", "--rate (CLIENT_RATE): 0", `--name (CLIENT_NAME): "a\nb"`}},
		{"mode", nil, []string{"--target", "http://lb0/", "--progress", "pretty", "--log-format", "xml"}, []string{`--progress (CLIENT_PROGRESS): "pretty"`, `--log-format (CLIENT_LOG_FORMAT): "xml"`}},
		{"report", nil, []string{"--target", "http://lb0/", "--report", "/nowhere/at/all.json"}, []string{"--report (CLIENT_REPORT)", "/nowhere/at/all.json"}},
		{"argument", nil, []string{"go"}, []string{`"go"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, c.env, c.args...)
			if got := p.Wait(); got != 2 {
				t.Errorf("exit code: got %d, want 2", got)
			}
			for _, want := range c.want {
				if !strings.Contains(p.Stderr.String(), want) {
					t.Errorf("stderr: got %q, want %q in it", p.Stderr.String(), want)
				}
			}
			if got := p.Stdout.String(); got != "" {
				t.Errorf("stdout: got %q, want nothing", got)
			}
		})
	}
}

func TestPasswordInATargetIsNotTold(t *testing.T) {
	for _, target := range []string{"http://user:hunter2@lb0/", "http://user:hunter2@lb0:port/"} {
		p := start(t, nil, "--target", target)
		if got := p.Wait(); got != 2 {
			t.Errorf("exit code: got %d, want 2", got)
		}
		if strings.Contains(p.Stderr.String(), "hunter2") {
			t.Errorf("stderr: got %q, which tells the password", p.Stderr.String())
		}
	}
}

func TestHelpExitsZero(t *testing.T) {
	p := start(t, nil, "--help")
	if got := p.Wait(); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
	for _, want := range []string{"--target URL", "[CLIENT_TARGET]", "--max-in-flight", "overrun"} {
		if !strings.Contains(p.Stdout.String(), want) {
			t.Errorf("help: got %s, want %q in it", p.Stdout.String(), want)
		}
	}
}

// held serves a node that answers once release is closed.
func held(t *testing.T) (url string, waiting *atomic.Int64, release chan struct{}) {
	t.Helper()
	waiting, release = new(atomic.Int64), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		waiting.Add(1)
		select {
		case <-release:
			answer(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, waiting, release
}

func TestSignalEndsTheRunAndWaitsForWhatIsUnderWay(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			url, waiting, release := held(t)
			c := start(t, nil, "--target", url, "--idempotent-only", "--json", "--progress", "none", "--timeout", "20s")
			eventually(t, "five requests under way", func() bool { return waiting.Load() >= 5 })
			c.Signal(s)
			eventually(t, "a word about the signal", func() bool { return strings.Contains(c.Stderr.String(), "stopping") })
			close(release)
			if got := c.Wait(); got != 0 {
				t.Errorf("exit code: got %d, want 0; stderr:\n%s", got, c.Stderr.String())
			}
			if r := parse(t, c.Stdout.String()); r.Requests < 5 || r.Failed != 0 || int64(r.Requests) != waiting.Load() {
				t.Errorf("report: got %+v, want a success for each of the %d requests", r, waiting.Load())
			}
		})
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	url, waiting, _ := held(t)
	c := start(t, nil, "--target", url, "--idempotent-only", "--timeout", "20s")
	eventually(t, "a request under way", func() bool { return waiting.Load() > 0 })
	c.Signal(syscall.SIGINT)
	eventually(t, "a word about the signal", func() bool { return strings.Contains(c.Stderr.String(), "stopping") })
	c.Signal(syscall.SIGTERM)
	if got, want := c.Wait(), 128+15; got != want {
		t.Errorf("exit code: got %d, want %d", got, want)
	}
}

func TestRefusedConnectionExitsOneWithASummary(t *testing.T) {
	server := api(t)
	server.Close() // nothing listens there any more
	c := start(t, nil, "--target", server.URL, "--rate", "1", "--duration", "1ms", "--progress", "none")
	if got := c.Wait(); got != 1 {
		t.Errorf("exit code: got %d, want 1", got)
	}
	if !strings.Contains(c.Stdout.String(), "1 requests") || !strings.Contains(c.Stdout.String(), "transport 1") {
		t.Errorf("summary: got %q, want the one request and its cause", c.Stdout.String())
	}
}

func TestProgressIsRedrawnInPlaceOnATerminal(t *testing.T) {
	terminal, tty := openTerminal(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, built.Path, "--target", api(t).URL, "--duration", "2500ms", "--name", "client0")
	cmd.Stdout, cmd.Stderr = tty, tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()                  // the client has its own
	shown, _ := io.ReadAll(terminal) // ends with EIO once the client has gone
	if err := cmd.Wait(); err != nil {
		t.Fatalf("client: %v\n%s", err, shown)
	}
	if got := strings.Count(string(shown), "\r\x1b[Kclient0    "); got != 2 {
		t.Errorf("lines drawn in place: got %d, want one a second, 2:\n%q", got, shown)
	}
}

// openTerminal returns both ends of a pseudo terminal (pty(7)).
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	unlocked := 0
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlocked))); errno != 0 {
		t.Fatalf("unlock the terminal: %v", errno)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// An operator's own service, by default and with what its answers must be.
func TestAnyService_Expectations_DecideTheExitCode(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Served-By", "web-1")
		_, _ = w.Write([]byte("<title>Shop</title>"))
	}))
	t.Cleanup(server.Close)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 0, "first response from web-1"},
		{[]string{"--expect-body", "<title>S.op"}, 0, ""},
		{[]string{"--expect-body", "Other"}, 1, "no match of Other"},
		{[]string{"--expect-status", "404"}, 1, "200 OK"},
		{[]string{"--expect-body", "("}, 2, "--expect-body (CLIENT_EXPECT_BODY)"},
		{[]string{"--expect-status", "ok"}, 2, "--expect-status (CLIENT_EXPECT_STATUS)"},
	} {
		args := append([]string{"--target", server.URL, "--duration", "200ms", "--progress", "none", "--json"}, c.args...)
		p := proctest.Start(t, nil, built.Path, args...)
		if got := p.Wait(); got != c.code || !strings.Contains(p.Stderr.String(), c.says) {
			t.Errorf("%q: exit code %d, want %d and %q; stderr:\n%s", c.args, got, c.code, c.says, p.Stderr.String())
		}
	}
}
