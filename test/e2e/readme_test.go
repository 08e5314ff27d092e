package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// The README's first commands, as they stand there and in that order, with other
// ports and paths and another program.
func TestReadme_QuickStart_DeploysWithoutFailedRequests(t *testing.T) {
	t.Parallel()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	headings := regexp.MustCompile(`(?m)^## .*$`).FindAllString(string(text), 2)
	if len(headings) != 2 || headings[0] != "## Install" || headings[1] != "## Quick start" {
		t.Fatalf("the README begins with %q, want how to install and to start", headings)
	}
	_, section, _ := strings.Cut(string(text), "\n## Quick start\n")
	section, _, _ = strings.Cut(section, "\n## ")

	w := bareWorld(t)
	dir, serve, status, program, next := t.TempDir(), w.port(), w.port(), w.port(), w.port()
	w.must(os.WriteFile(filepath.Join(dir, "healthz"), []byte("well"), 0o600))
	python, err := lab.Python()
	w.must(err)
	section = strings.NewReplacer(
		`"*:80"`, fmt.Sprintf(`"127.0.0.1:%d"`, serve),
		"/run/haproxy-master.sock", dir+"/master.sock", "/etc/haproxy/haproxy.cfg", dir+"/haproxy.cfg",
		"./program --listen :4000", fmt.Sprintf("%s -m http.server %d --bind 127.0.0.1 --directory %s", python, program, dir),
		"--port 4000", "--port "+strconv.Itoa(program),
		"./program --listen :4001", fmt.Sprintf("%s -m http.server %d --bind 127.0.0.1 --directory %s", python, next, dir),
		"--port 4001", "--port "+strconv.Itoa(next),
	).Replace(section)
	settings := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(section)
	commands := regexp.MustCompile(`(?m)^(pointsman|haproxy|registrator) .*$`).FindAllString(section, -1)
	if settings == nil || len(commands) != 5 || !strings.HasPrefix(commands[0], "pointsman run") || !strings.HasPrefix(commands[1], "haproxy ") || !strings.HasPrefix(commands[2], "registrator run") || !strings.HasPrefix(commands[3], "registrator run") || !strings.HasPrefix(commands[4], "pointsman deploy") {
		t.Fatalf("settings %q, commands %q, want the sidecar's settings, then sidecar, HAProxy, two registrators and a deployment", settings, commands)
	}
	w.must(os.WriteFile(dir+"/sidecar.yaml", []byte(settings[1]), 0o600))
	environ := append(os.Environ(), "CONSUL_HTTP_ADDR="+w.consul.Address(), "POINTSMAN_CONFIG="+dir+"/sidecar.yaml",
		"POINTSMAN_HAPROXY_CONFIG="+dir+"/haproxy.cfg", "POINTSMAN_HAPROXY_SOCKET="+dir+"/admin.sock",
		"POINTSMAN_HAPROXY_MASTER_SOCKET="+dir+"/master.sock", "POINTSMAN_API_ADDRESS=127.0.0.1:"+strconv.Itoa(status))
	w.runLine(environ, programs.Sidecar, commands[0])
	w.must(lab.Until(w.ctx, 20*time.Second, "the file that HAProxy starts with", func() error {
		_, err := os.Stat(dir + "/haproxy.cfg")
		return err
	}))
	w.runLine(environ, programs.HAProxy, commands[1])
	registrator := w.runLine(environ, programs.Registrator, commands[2])
	url := fmt.Sprintf("http://127.0.0.1:%d/healthz", serve)
	answers := func() error {
		_, code, err := w.getWith(url, "")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		return err
	}
	w.must(lab.Until(w.ctx, 20*time.Second, "an answer", answers))
	if out, code := sidecar(t, environ, "check"); code != 0 {
		t.Errorf("pointsman check: exit code %d:\n%s", code, out)
	}
	w.runLine(environ, programs.Registrator, commands[3])
	live := fmt.Sprintf("http://127.0.0.1:%d/api/v1/live/api?version=1.1&count=1&wait=1s", status)
	w.must(lab.Until(w.ctx, 20*time.Second, "version 1.1", func() error {
		w.must(answers())
		body, _, err := w.getWith(live, "")
		if err == nil && !strings.Contains(body, `"live":true`) {
			err = errors.New(body)
		}
		return err
	}))
	w.must(registrator.Process.Signal(syscall.SIGTERM))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = registrator.Wait() // Python's, by SIGTERM
	}()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		default:
		}
		w.must(answers())
	}
	if got := registrator.ProcessState.ExitCode(); got != 143 {
		t.Errorf("the registrator's exit code is %d, want Python's 143", got)
	}
}

func (w *world) port() int {
	w.Helper()
	port, err := w.Port()
	w.must(err)
	return port
}

// runLine runs a program by a line of words whose first is its name, up to a
// comment. It ends with the test.
func (w *world) runLine(environ []string, program, line string) *exec.Cmd {
	w.Helper()
	line, _, _ = strings.Cut(line, " #")
	cmd := exec.CommandContext(w.ctx, program, strings.Fields(line)[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environ, w.Output(), w.Output()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	w.must(cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Cancel() // ended already: as well
		_ = cmd.Wait()
	})
	return cmd
}
