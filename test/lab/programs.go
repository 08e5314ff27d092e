package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// Programs are the binaries that a lab runs. One that it is not to run need not
// be there.
type Programs struct {
	HAProxy, Consul      string
	Sidecar, API, Client string
	Registrator          string // the exec wrapper

	dir string // of ours
}

// Remove removes what FindPrograms has built.
func (p Programs) Remove() { _ = os.RemoveAll(p.dir) } // a temporary directory

// FindPrograms looks for HAProxy and Consul where HAPROXY and CONSUL say, on
// the PATH, and where `make tools` and `make demo` put them, and builds ours: those
// that are named, or all. They are there until Remove.
func FindPrograms(ctx context.Context, names ...string) (p Programs, err error) {
	root, err := Root()
	if err != nil {
		return p, err
	}
	p.HAProxy, err = find("HAPROXY", "haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy")
	var consulErr error
	p.Consul, consulErr = FindConsul()
	if err := errors.Join(err, consulErr); err != nil {
		return p, err
	}
	if p.dir, err = os.MkdirTemp("", "pm-bin-"); err != nil {
		return p, fmt.Errorf("lab: %w", err)
	}
	// One command for all: it compiles what they share once, and side by side. After
	// `make build`, which builds them alike, it only links.
	args := []string{"build", "-trimpath", "-o", p.dir + string(filepath.Separator)}
	for target, path := range map[string]*string{"./sidecar/cmd/pointsman": &p.Sidecar, "./services/api": &p.API, "./services/client": &p.Client, "./registrator/cmd/registrator": &p.Registrator} {
		name := filepath.Base(target)
		if len(names) == 0 || slices.Contains(names, name) {
			*path = filepath.Join(p.dir, name)
			args = append(args, target)
		}
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		p.Remove()
		return p, fmt.Errorf("lab: go %q: %w\n%s", args, err, out)
	}
	return p, nil
}

// FindConsul is FindPrograms for Consul alone.
func FindConsul() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(root, ".tools")
	return find("CONSUL", "consul", filepath.Join(tools, "bin", "consul"), filepath.Join(tools, "consul", "1.8", "consul"))
}

// find looks a program up: by a variable, by name, then in places.
func find(variable, name string, places ...string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		path, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", fmt.Errorf("lab: %s: %w", variable, err)
		}
		return path, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, path := range places {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("lab: no %s on the PATH or in %v: run `make tools`, or set %s", name, places, variable)
}

// Root is the repository's directory.
func Root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("lab: the place of the source is not known")
	}
	if filepath.IsAbs(file) {
		if _, err := os.Stat(file); err == nil {
			return filepath.Join(filepath.Dir(file), "..", ".."), nil
		}
	}
	// Built with -trimpath: look upward from where we run.
	dir, err := os.Getwd()
	for err == nil {
		if _, statErr := os.Stat(filepath.Join(dir, "templates", "haproxy.cfg.tmpl")); statErr == nil {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		err = errors.New("lab: not inside the repository")
	}
	return "", err
}
