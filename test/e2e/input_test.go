package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// settings is a sidecar.yaml that is right except for what a test breaks.
func settings(dir, haproxy, consul string) string {
	return fmt.Sprintf(`name: lb0
consul: {address: %q}
haproxy:
  socket: %[2]s/admin.sock
  master_socket: %[2]s/master.sock
  config: %[2]s/haproxy.cfg
  check_command: [%[3]s, -c, -f, "{file}"]
services:
  - name: api
    bind: "127.0.0.1:9999"
api: {address: "127.0.0.1:0"}
`, consul, dir, haproxy)
}

func TestWrongInputIsNamedWithItsKeyValueAndPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		replace [2]string // in the settings
		environ string
		args    []string
		code    int
		want    []string // in what is printed
	}{
		{
			name: "an unknown key", replace: [2]string{"api: {", "ipa: {"}, args: []string{"run"},
			code: 2, want: []string{"ipa", "sidecar.yaml:11", "api"},
		},
		{
			name: "a malformed value", replace: [2]string{"name: api\n", "name: api\n    drain_timeout: 5 minutes\n"}, args: []string{"run"},
			code: 2, want: []string{"drain_timeout", "5 minutes", "sidecar.yaml:10"},
		},
		{
			name: "a malformed variable", environ: "POINTSMAN_RECONCILE_INTERVAL=often", args: []string{"run"},
			code: 2, want: []string{"reconcile_interval", "often", "POINTSMAN_RECONCILE_INTERVAL"},
		},
		{
			name: "an unknown flag", args: []string{"run", "--frobnicate"},
			code: 2, want: []string{"--frobnicate"},
		},
		{
			name: "a misspelt flag", args: []string{"run", "--consul-adress=x"},
			code: 2, want: []string{"unknown flag: --consul-adress; did you mean --consul-address?"},
		},
		{
			name: "a renamed flag", args: []string{"run", "--status-address=x"},
			code: 2, want: []string{"unknown flag: --status-address; it was renamed: --api-address"},
		},
		{
			name: "an unknown command", args: []string{"frobnicate"},
			code: 2, want: []string{"frobnicate"},
		},
		{
			name: "a template that is not there", environ: "POINTSMAN_HAPROXY_TEMPLATE=/nowhere/my.tmpl", args: []string{"run"},
			code: 2, want: []string{"haproxy.template", "/nowhere/my.tmpl"},
		},
		{
			name: "a template without the service's backend", environ: "POINTSMAN_HAPROXY_TEMPLATE=testdata/nobackend.tmpl", args: []string{"check", "--offline"},
			code: 1, want: []string{"FAIL  template", "prints no `backend api`", "nobackend.tmpl"},
		},
		{
			name: "a template without the backend's servers", environ: "POINTSMAN_HAPROXY_TEMPLATE=testdata/noservers.tmpl", args: []string{"check", "--offline"},
			code: 1, want: []string{"FAIL  template", "backend api: it does not print the service's servers", "noservers.tmpl"},
		},
		{
			name: "a template that names its services", environ: "POINTSMAN_HAPROXY_TEMPLATE=testdata/byname.tmpl", args: []string{"check", "--offline"},
			code: 0, want: []string{"ok    template"},
		},
		{
			name: "a template that names a service which is not there", environ: "POINTSMAN_HAPROXY_TEMPLATE=testdata/byname.tmpl",
			replace: [2]string{"name: api\n", "name: web\n"}, args: []string{"check", "--offline"},
			code: 1, want: []string{"FAIL  template", "byname.tmpl", `no service "api" in the settings`},
		},
		{
			name: "a cookie that makes no server sticky", replace: [2]string{"name: api\n", "name: api\n    backend_extra: [cookie SRV insert]\n"}, args: []string{"check", "--offline"},
			code: 2, want: []string{"backend_extra", "cookie SRV insert", "no server would be sticky", "sidecar.yaml:10"},
		},
		{
			name: "one port in two services", replace: [2]string{"services:\n", "services:\n  - {name: web, bind: \"*:9999\"}\n"}, args: []string{"check", "--offline"},
			code: 2, want: []string{"services[api].bind: 127.0.0.1:9999 overlaps *:9999 of services[web].bind"},
		},
		{
			name: "no master socket", replace: [2]string{"master_socket: ", "master_socket: \"\" #"}, args: []string{"check"},
			code: 1, want: []string{"FAIL  haproxy", "admin.sock", "haproxy.master_socket is not set"},
		},
		{
			name: "settings and template alone", args: []string{"check", "--offline"},
			code: 0, want: []string{"ok    settings", "ok    template     built in"},
		},
		{
			name: "lines that HAProxy rejects", replace: [2]string{"name: api\n", "name: api\n    backend_extra: [nonsense here]\n"}, args: []string{"check", "--offline"},
			code: 1, want: []string{"FAIL  template     render: HAProxy rejects the new configuration: ", "[haproxy.cfg:", "unknown keyword 'nonsense' in 'backend' section (backend api)", "`pointsman render --offline` prints the file"},
		},
		{
			name: "the master's socket as the worker's", replace: [2]string{"admin.sock", "master.sock"}, args: []string{"check", "--offline"},
			code: 2, want: []string{"sidecar.yaml:4: haproxy.socket", "is haproxy.master_socket too"},
		},
		{
			name: "Consul that can't be reached", args: []string{"plan"},
			code: 1, want: []string{"127.0.0.1:1", "refused"},
		},
		{
			name: "sockets that are not there", args: []string{"check"},
			code: 1, want: []string{"FAIL  haproxy", "admin.sock", "no such socket"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			text := strings.Replace(settings(dir, programs.HAProxy, "127.0.0.1:1"), c.replace[0], c.replace[1], 1)
			path := filepath.Join(dir, "sidecar.yaml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			out, code := sidecar(t, []string{c.environ, "POINTSMAN_CONFIG=" + path}, c.args...)
			if code != c.code {
				t.Errorf("exit code: got %d, want %d", code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("%q is not in the output:\n%s", w, out)
				}
			}
		})
	}
}

// shortDir is a temporary directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// sidecar runs a command of the sidecar that ends by itself.
func sidecar(t *testing.T, environ []string, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), programs.Sidecar, args...)
	cmd.Env = append(os.Environ(), environ...)
	cmd.Stdin = bytes.NewReader(nil)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

func TestASocketWithoutPermissionIsNamed(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		// A user who is not root can't make a socket that is another's; but then
		// root's own is one.
		t.Fatal("this test has to run as root, as CI does")
	}
	w := newWorld(t, 1)
	for _, socket := range []string{w.lb.Socket(), w.lb.Master()} {
		w.must(os.Chmod(socket, 0o600))
	}
	w.must(os.Chmod(w.Dir(), 0o755))
	cmd := exec.CommandContext(w.ctx, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", programs.Sidecar, "check", "--config", w.lb.Settings())
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("check passes:\n%s", out)
	}
	for _, want := range []string{"FAIL  haproxy ", w.lb.Socket(), "permission denied", "FAIL  haproxy.cfg", w.lb.Config()} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
}

func TestSettingsThatAreWrongOnRereadLeaveTheOldInForce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	clients := w.load()
	good, err := os.ReadFile(w.lb.Settings())
	w.must(err)
	w.must(os.WriteFile(w.lb.Settings(), append(good, []byte("nonsense: 1\n")...), 0o600))
	w.must(w.lb.Reread())
	w.logged("invalid configuration, keeping current", "nonsense")

	fresh := w.startNodes("1.1", "new", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(append(w.nodes, fresh...)...)...))
	w.mustLoseNothing(clients)
}

// logged waits until one of the last lines of the sidecar's log has all the words.
func (w *world) logged(words ...string) {
	w.Helper()
	w.loggedIn(200, words...)
}

// loggedIn waits for it in more or fewer of the last lines.
func (w *world) loggedIn(lines int, words ...string) {
	w.Helper()
	w.must(lab.Until(w.ctx, 15*time.Second, fmt.Sprintf("the log has %q", words), func() error {
		for line := range strings.Lines(w.lb.Sidecar.Tail(lines)) {
			all := true
			for _, word := range words {
				all = all && strings.Contains(line, word)
			}
			if all {
				return nil
			}
		}
		return errors.New("it has not")
	}))
}

// A template that HAProxy rejects must not stop anything but itself.
func TestATemplateThatHAProxyRejectsStopsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	clients := w.load()
	pid := w.workerPID()
	before, err := os.ReadFile(w.lb.Config())
	w.must(err)
	root, err := lab.Root()
	w.must(err)
	built, err := os.ReadFile(filepath.Join(root, "templates", "haproxy.cfg.tmpl"))
	w.must(err)
	path := w.Path("my.tmpl")
	w.must(os.WriteFile(path, append(built, []byte("\nbackend {{(index .Services 0).Backend}}_more\n    ballance roundrobin\n")...), 0o600))
	// haproxy.template stands in the settings from now on.
	settings, err := os.ReadFile(w.lb.Settings())
	w.must(err)
	withTemplate := strings.Replace(string(settings), "haproxy:\n", "haproxy:\n  template: "+path+"\n", 1)
	w.must(os.WriteFile(w.lb.Settings(), []byte(withTemplate), 0o600))
	w.must(w.lb.Reread())
	w.must(lab.Until(w.ctx, 15*time.Second, "the rejection is reported", func() error {
		if s := w.state(); !strings.Contains(s.Reloads.Error, "ballance") {
			return fmt.Errorf("%+v", s.Reloads)
		}
		return nil
	}))
	if now, err := os.ReadFile(w.lb.Config()); err != nil || string(now) != string(before) {
		t.Errorf("haproxy.cfg was changed (%v):\n%s", err, now)
	}
	if kept, err := os.ReadFile(w.lb.Config() + ".rejected"); err != nil || !strings.Contains(string(kept), "ballance") {
		t.Errorf("the rejected file was not kept: %v", err)
	}

	// Changes at runtime go on, and so does the file.
	fresh := w.startNodes("1.1", "new", 1)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, service, lab.NodeIDs(append(w.nodes, fresh...)...)...))
	w.must(lab.Until(w.ctx, 10*time.Second, "the file has the new node", func() error {
		now, err := os.ReadFile(w.lb.Config())
		if err == nil && !strings.Contains(string(now), fmt.Sprintf("127.0.0.1:%d ", fresh[0].Port)) {
			err = errors.New("it has not")
		}
		return err
	}))
	if got := w.workerPID(); got != pid {
		t.Errorf("HAProxy's worker is pid %d, was %d: it was reloaded", got, pid)
	}

	// Corrected, it is loaded.
	w.must(os.WriteFile(path, append(built, []byte("\n# corrected\n")...), 0o600))
	w.must(w.lb.Reread())
	w.must(lab.Until(w.ctx, 15*time.Second, "the corrected template is loaded", func() error {
		if s := w.state(); s.Reloads.Succeeded != 1 || s.Reloads.Error != "" {
			return fmt.Errorf("%+v", s.Reloads)
		}
		return nil
	}))
	w.mustLoseNothing(clients)
}
