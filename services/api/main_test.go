package main_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/proctest"
)

// The programs under test.
var (
	nodeProgram   = &proctest.Built{Source: "."}
	clientProgram = &proctest.Built{Source: "../client"}
)

func TestMain(m *testing.M) { os.Exit(proctest.Main(m, nodeProgram, clientProgram)) }

// process is a node that runs.
type process struct{ *proctest.Process }

func start(t *testing.T, env []string, args ...string) process {
	t.Helper()
	return process{proctest.Start(t, env, nodeProgram.Path, args...)}
}

// logged returns the first log entry with the message, or nil.
func (p process) logged(message string) map[string]any {
	for line := range strings.Lines(p.Stderr.String()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == message {
			return entry
		}
	}
	return nil
}

// startNode starts a node on a free port and gives its URL.
func startNode(t *testing.T, env []string, args ...string) (process, string) {
	t.Helper()
	p := start(t, env, append([]string{"--listen", "127.0.0.1:0", "--instance", "api0"}, args...)...)
	eventually(t, "the node serves", func() bool { return p.logged("serving") != nil })
	address, _ := p.logged("serving")["address"].(string)
	return p, "http://" + address
}

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	proctest.Until(t, 30*time.Second, what, fact)
}

type reply struct {
	code  int
	close bool
	body  string
	err   error
}

func get(t *testing.T, url string) reply {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return reply{err: err}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Close, string(body), err}
}

func TestNodeIsInConsulWhileItServesAndLeavesInOrder(t *testing.T) {
	agent := proctest.PrepareConsul(t)
	node, url := startNode(t, []string{"API_VERSION=1.1", "CONSUL_HTTP_ADDR=" + agent.Address()}, "--leave-wait", "2s", "--linger", "0")
	if got := get(t, url+"/"); got.code != 200 || !strings.Contains(got.body, `"version":"1.1"`) {
		t.Errorf("without Consul: got %+v, want an answer of 1.1", got)
	}
	if err := agent.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	consul := agent.Client
	entry := func() *api.ServiceEntry {
		entries, _, err := consul.Health().Service("api", "", false, nil)
		if err != nil || len(entries) != 1 {
			return nil
		}
		return entries[0]
	}

	eventually(t, "Consul lists the node", func() bool { return entry() != nil })
	got := entry()
	if got.Service.ID != "api0" || got.Service.Meta["version"] != "1.1" || got.Service.Address != "127.0.0.1" || got.Checks.AggregatedStatus() != api.HealthPassing {
		t.Errorf("entry: got %+v, %s, want api0 of 1.1 at 127.0.0.1, passing", got.Service, got.Checks.AggregatedStatus())
	}

	slow := make(chan reply, 1)
	go func() { slow <- get(t, url+"/slow?ms=3000") }()
	node.Signal(syscall.SIGTERM)
	eventually(t, "Consul has the mark", func() bool { e := entry(); return e != nil && e.Service.Meta["pointsman-drain"] != "" })
	if got := get(t, url+"/healthz"); got.code != 200 || !got.close {
		t.Errorf("check of the leaving node: got %+v, want 200 and Connection: close", got)
	}
	if got := entry(); got == nil || got.Checks.AggregatedStatus() != api.HealthPassing {
		t.Errorf("entry of the leaving node: got %+v, want it passing", got)
	}
	if code := node.Wait(); code != 0 {
		t.Errorf("exit code: got %d, want 0; stderr:\n%s", code, node.Stderr.String())
	}
	if got := <-slow; got.code != 200 {
		t.Errorf("request in flight: got %+v, want 200", got)
	}
	entries, _, err := consul.Health().Service("api", "", false, nil)
	if err != nil || len(entries) != 0 {
		t.Errorf("after the exit: got %d entries, %v, want 0", len(entries), err)
	}
	if node.logged("leaving")["cause"] != "got SIGTERM" || node.logged("marked as leaving") == nil {
		t.Errorf("log: got\n%s\nwant the cause, and the registrator's lines", node.Stderr.String())
	}
}

// TestNode_Leaves_ServesUntilItsLoadBalancerHasDrained: and a second signal ends the
// wait for that.
func TestNode_Leaves_ServesUntilItsLoadBalancerHasDrained(t *testing.T) {
	agent := proctest.PrepareConsul(t)
	if err := agent.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	consul := agent.Client
	asked, drained := make(chan string, 100), make(chan struct{})
	sidecar := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Authorization") + " " + r.URL.Path
		select {
		case <-drained:
			_, instance, _ := strings.Cut(r.URL.Path, "/api/v1/drain/api/")
			_, _ = fmt.Fprintf(w, `{"load_balancer":"lb0","service":"api","instance":%q,"drained":true,"sessions":0}`, instance)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(sidecar.Close)
	at, _ := sidecar.Listener.Addr().(*net.TCPAddr)
	if err := consul.Agent().ServiceRegister(&api.AgentServiceRegistration{
		Name: "lbs", Address: "127.0.0.1", Port: at.Port, Meta: map[string]string{"pointsman-lb": "lb0", "pointsman-routes": "web,api", "pointsman-scheme": "https"},
	}); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sidecar.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	leaves := func(id string) (process, string) {
		node, url := startNode(t, []string{"CONSUL_HTTP_ADDR=" + agent.Address(), "API_SIDECARS=lbs", "API_SIDECAR_TOKEN_FILE=" + token, "API_SIDECAR_CA_FILE=" + authority}, "--id", id, "--leave-wait", "40s")
		eventually(t, "Consul lists the node", func() bool {
			entries, _, err := consul.Health().Service("api", "", true, nil)
			return err == nil && slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool { return e.Service.ID == id })
		})
		node.Signal(syscall.SIGTERM)
		select {
		case got := <-asked:
			if want := "Bearer hush /api/v1/drain/api/" + id; got != want {
				t.Errorf("asked %q, want %q", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("the sidecar was not asked within 30s")
		}
		if got := get(t, url+"/"); got.code != 200 {
			t.Errorf("while a session may be on it: got %+v, want 200", got)
		}
		return node, url
	}

	hasty, _ := leaves("hasty")
	hasty.Signal(syscall.SIGTERM)
	if got, want := hasty.Wait(), 128+15; got != want {
		t.Errorf("a second signal: got exit code %d, want %d", got, want)
	}

	node, _ := leaves("api0")
	began := time.Now()
	close(drained)
	if got := node.Wait(); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the end came %s after the load balancer had drained it, want at once", took)
	}
	if got := node.logged("drained on load balancer"); got["lb"] != "lb0" || strings.Contains(node.Stderr.String(), "hush") {
		t.Errorf("log: got\n%s\nwant lb0 to have drained it, and no token", node.Stderr.String())
	}
}

func TestSignalFinishesWhatIsInFlight(t *testing.T) {
	node, url := startNode(t, nil, "--no-register", "--linger", "0")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/stream?chunks=5&ms=200", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := http.DefaultClient.Do(r) // returns with the first chunk, so it is in flight
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()

	node.Signal(syscall.SIGINT)

	body, err := io.ReadAll(stream.Body)
	if err != nil || !strings.Contains(string(body), `"chunk":5,"of":5`) {
		t.Errorf("stream in flight: got %q, %v, want all of it", body, err)
	}
	if code := node.Wait(); code != 0 {
		t.Errorf("exit code: got %d, want 0; stderr:\n%s", code, node.Stderr.String())
	}
	if got := get(t, url+"/"); got.err == nil {
		t.Errorf("after the exit: got %+v, want a refused connection", got)
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	node, url := startNode(t, nil, "--no-register", "--linger", "20s")
	if got := get(t, url+"/"); got.code != 200 { // leaves an idle connection, for which the node lingers
		t.Fatalf("got %+v, want 200", got)
	}
	node.Signal(syscall.SIGTERM)
	eventually(t, "the node is leaving", func() bool { return node.logged("leaving") != nil })
	node.Signal(syscall.SIGINT)
	if got, want := node.Wait(), 128+2; got != want {
		t.Errorf("exit code: got %d, want %d", got, want)
	}
}

func TestMalformedSettingsExitTwoAndAreAllNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want []string
	}{
		{"flag", nil, []string{"--leave-wait", "soon"}, []string{"--leave-wait", `"soon"`}},
		{"unknown flag", nil, []string{"--lissten", ":1"}, []string{"--lissten"}},
		{"fail", []string{"API_FAIL=often"}, nil, []string{`API_FAIL`, `"often"`}},
		{"environment", []string{"API_LINGER=1", "API_NO_REGISTER=maybe"}, nil, []string{`API_LINGER="1"`, `API_NO_REGISTER="maybe"`}},
		{"values", []string{"API_VERSION=1\t0", "API_ADDRESS=lb0"}, []string{"--listen", "4000", "--stop-timeout", "1s"}, []string{`version "1\t0"`, `--address (API_ADDRESS): "lb0"`, `--listen (API_LISTEN): "4000"`, "--stop-timeout (API_STOP_TIMEOUT): 1s"}},
		{"leave", nil, []string{"--leave-wait", "4s", "--leave-timeout", "3s"}, []string{"--leave-timeout (API_LEAVE_TIMEOUT): 3s: must not be shorter than leave-wait, 4s"}},
		{"stop", []string{"API_LEAVE_TIMEOUT=2m"}, []string{"--stop-timeout", "1m"}, []string{"--stop-timeout (API_STOP_TIMEOUT): 1m0s: must be longer than leave-timeout and linger together, 2m1s"}},
		{"sidecars", []string{"API_SIDECAR_TOKEN_FILE=/no/token"}, []string{"--listen", "127.0.0.1:0"}, []string{"/no/token"}},
		{"registration", nil, []string{"--listen", "127.0.0.1:0", "--service", ""}, []string{"service"}},
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
		})
	}
}

func TestPortInUseExitsOneAndIsNamed(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	p := start(t, nil, "--no-register", "--listen", listener.Addr().String())
	if got := p.Wait(); got != 1 {
		t.Errorf("exit code: got %d, want 1", got)
	}
	for _, want := range []string{"--listen (API_LISTEN)", listener.Addr().String()} {
		if !strings.Contains(p.Stderr.String(), want) {
			t.Errorf("stderr: got %q, want %q in it", p.Stderr.String(), want)
		}
	}
}

func TestHelpExitsZero(t *testing.T) {
	p := start(t, nil, "--help")
	if got := p.Wait(); got != 0 {
		t.Errorf("exit code: got %d, want 0", got)
	}
	for _, want := range []string{"[API_LISTEN]", "[API_VERSION]", "/stream", "CONSUL_HTTP_TOKEN"} {
		if !strings.Contains(p.Stdout.String(), want) {
			t.Errorf("help: got %s, want %q in it", p.Stdout.String(), want)
		}
	}
}

func TestClientFindsNothingAmissWithTheNode(t *testing.T) {
	_, url := startNode(t, nil, "--no-register")
	client := proctest.Start(t, nil, clientProgram.Path, "--target", url, "--rate", "200", "--duration", "1s", "--post-share", "0.5", "--fresh-share", "0.5", "--progress", "none")
	if got := client.Wait(); got != 0 {
		t.Errorf("exit code: got %d, want 0; stderr:\n%s", got, client.Stderr.String())
	}
	if want := "200 requests"; !strings.Contains(client.Stdout.String(), want) {
		t.Errorf("summary: got %q, want %q in it", client.Stdout.String(), want)
	}
}
