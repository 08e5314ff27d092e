package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Wrapped is a foreign program under the registrator's exec wrapper.
type Wrapped struct {
	*Process
	Name string
	Port int
}

// StartWrapped starts a program under `registrator run`, as the instance of its
// name of a service, with flags for the wrapper. command gets the port on
// which the program is to listen, and gives its arguments. It does not wait.
func (l *Lab) StartWrapped(consul *Consul, service, name string, flags []string, command func(port int) []string) (*Wrapped, error) {
	w := &Wrapped{Name: name}
	if err := l.portsFor(&w.Port); err != nil {
		return nil, err
	}
	args := append([]string{
		"run", "--service", service, "--id", name, "--address", "127.0.0.1", "--port", strconv.Itoa(w.Port), "--check", "http:/healthz",
	}, flags...)
	var err error
	w.Process, err = l.startWith(name, []string{"CONSUL_HTTP_ADDR=" + consul.Address()}, l.programs.Registrator, append(append(args, "--"), command(w.Port)...)...)
	return w, err
}

// Nginx finds the nginx that NGINX names, or that of the PATH, or the one that
// `make tools` has.
func Nginx() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return find("NGINX", "nginx", filepath.Join(root, ".tools", "nginx", "nginx"), "/usr/sbin/nginx")
}

// Keepalived finds keepalived.
func Keepalived() (string, error) { return find("KEEPALIVED", "keepalived", "/usr/sbin/keepalived") }

// Python finds Python's interpreter.
func Python() (string, error) { return exec.LookPath("python3") }

// Promtool finds the promtool that PROMTOOL names, or that of the PATH, or the one
// that tools/prometheus.sh provides.
func Promtool() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return find("PROMTOOL", "promtool", filepath.Join(root, ".tools", "prometheus", "promtool"))
}

// WriteNginx writes a configuration of nginx that answers with a name, all of
// whose files are below dir, and gives the command that runs it.
func WriteNginx(nginx, dir, name string, port int) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	config := fmt.Sprintf(`worker_processes 2;
pid %[1]s/pid;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/a;
	proxy_temp_path %[1]s/b;
	fastcgi_temp_path %[1]s/c;
	uwsgi_temp_path %[1]s/d;
	scgi_temp_path %[1]s/e;
	server {
		listen 127.0.0.1:%[2]d;
		location = /healthz { return 200 "well"; }
		location = / { return 200 "%[3]s"; }
	}
}
`, dir, port, name)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return []string{nginx, "-p", dir, "-e", "stderr", "-c", path, "-g", "daemon off;"}, nil
}
