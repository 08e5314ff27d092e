//go:build linux

package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// get returns what the server answers; the body may be on its way.
func get(t *testing.T, url string) (status int, body io.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response.StatusCode, response.Body
}

func TestPythonsServerLeavesInOrder(t *testing.T) {
	t.Parallel()
	python := findProgram(t, "PYTHON", "python3")
	c := sharedConsul(t)
	port, dir := freePort(t), t.TempDir()
	id, at := "python-"+strconv.Itoa(port), "http://127.0.0.1:"+strconv.Itoa(port)
	if err := os.WriteFile(filepath.Join(dir, "healthz"), []byte("well"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, c.env(), "run", "--service", "web", "--port", strconv.Itoa(port), "--id", id, "--check", "http:/healthz", "--leave-wait", "2s", "--",
		python, "-m", "http.server", strconv.Itoa(port), "--bind", "127.0.0.1", "--directory", dir)
	c.registered(t, "web", id)

	p.Signal(syscall.SIGTERM)
	p.logs("marked as leaving")
	if got, _ := get(t, at+"/healthz"); got != http.StatusOK {
		t.Errorf("while it leaves it answers %d, want 200", got)
	}
	if got := p.wait(); got != 143 {
		t.Errorf("exit code %d, want 143: SIGTERM ends Python", got)
	}
	if c.entry(t, "web", id) != nil {
		t.Error("it is registered after its end")
	}
}

// TestNginxLeavesInOrder: SIGQUIT is nginx's word for a graceful end, in which
// its workers finish the requests under way.
func TestNginxLeavesInOrder(t *testing.T) {
	t.Parallel()
	nginx := findProgram(t, "NGINX", "nginx", filepath.Join("..", "..", "..", ".tools", "nginx", "nginx"), "/usr/sbin/nginx")
	c := sharedConsul(t)
	port, dir := freePort(t), t.TempDir()
	id, at := "nginx-"+strconv.Itoa(port), "http://127.0.0.1:"+strconv.Itoa(port)
	p := start(t, c.env(), "run", "--service", "web", "--port", strconv.Itoa(port), "--id", id, "--check", "http:/healthz",
		"--signal", "QUIT", "--leave-wait", "300ms", "--", nginx, "-p", dir, "-e", "stderr", "-c", nginxConfig(t, dir, port), "-g", "daemon off;")
	c.registered(t, "web", id)

	_, slow := get(t, at+"/slow")
	p.Signal(syscall.SIGHUP) // nginx's word for a reload, which is none of ours
	p.Signal(syscall.SIGTERM)
	if body, err := io.ReadAll(slow); err != nil || len(body) != slowSize {
		t.Errorf("of the answer that was on its way %d bytes came, and %v, want %d and no error", len(body), err, slowSize)
	}
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want nginx's 0", got)
	}
	if c.entry(t, "web", id) != nil {
		t.Error("it is registered after its end")
	}
}

// slowSize is more than nginx sends before it leaves, at 200 kB a second.
const slowSize = 300_000

// nginxConfig writes a configuration whose files are all below dir.
func nginxConfig(t *testing.T, dir string, port int) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "slow"), make([]byte, slowSize), 0o600); err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root root;" // else its workers can't read the test's files
	}
	config := fmt.Sprintf(`%s
worker_processes 2;
pid %[2]s/pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[2]s/a;
	proxy_temp_path %[2]s/b;
	fastcgi_temp_path %[2]s/c;
	uwsgi_temp_path %[2]s/d;
	scgi_temp_path %[2]s/e;
	server {
		listen 127.0.0.1:%[3]d;
		root %[2]s;
		location = /healthz { return 200 "well"; }
		location = /slow { limit_rate 200k; }
	}
}
`, user, dir, port)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
