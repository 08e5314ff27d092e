package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Balancer is one load balancer: an HAProxy and the sidecar beside it.
type Balancer struct {
	Name     string
	lab      *Lab
	consul   *Consul
	services []Service
	extra    string // further settings
	environ  []string
	files    int    // the sidecar's limit of open files; 0 is the lab's own
	haproxy  string // further settings of HAProxy, indented
	config   string // the name of HAProxy's file, below Path
	joined   string // the service as which it is registered in Consul, or ""

	HAProxy, Sidecar *Process

	StatsPort, StatusPort int
	HealthPort            int // of HAProxy's health answer; 0 before Join
	PeerPort              int // where stick tables are exchanged; 0 before ExchangeTables
}

// Service is one service as the sidecar's file has it.
type Service struct {
	Name, Backend string
	Port          int    // that HAProxy binds; 0 takes a free one
	BackendOnly   bool   // HAProxy binds nothing for it
	Extra         string // further lines under the service, indented as YAML wants it
}

// NewBalancer prepares a load balancer; nothing is started. The lab fills in
// the ports that are 0.
func (l *Lab) NewBalancer(name string, consul *Consul, services ...Service) (*Balancer, error) {
	b := &Balancer{Name: name, lab: l, consul: consul, config: "haproxy.cfg"}
	if err := l.portsFor(&b.StatsPort, &b.StatusPort); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.Path(""), 0o755); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return b, b.SetServices(services...)
}

// SetPorts sets the ports of HAProxy's statistics page and of the sidecar; 0
// leaves one as it is.
func (b *Balancer) SetPorts(stats, status int) error {
	if stats != 0 {
		b.StatsPort = stats
	}
	if status != 0 {
		b.StatusPort = status
	}
	return b.writeSettings()
}

// Join registers it in Consul as one of a service's load balancers, with
// HAProxy's own health answer. Clients find it by StartClientOf.
func (b *Balancer) Join(service string) error {
	if err := b.lab.portsFor(&b.HealthPort); err != nil {
		return err
	}
	b.joined = service
	return b.writeSettings()
}

// ExchangeTables makes its HAProxy a peer of the other load balancers' that do so.
func (b *Balancer) ExchangeTables() error {
	if err := b.lab.portsFor(&b.PeerPort); err != nil {
		return err
	}
	return b.writeSettings()
}

// Path returns the path of a file of this load balancer.
func (b *Balancer) Path(name string) string { return filepath.Join(b.lab.dir, b.Name, name) }

// Socket is HAProxy's runtime socket.
func (b *Balancer) Socket() string { return b.Path("admin.sock") }

// Master is HAProxy's master socket.
func (b *Balancer) Master() string { return b.Path("master.sock") }

// Config is HAProxy's file.
func (b *Balancer) Config() string { return b.Path(b.config) }

// SetConfig puts HAProxy's file elsewhere, before the sidecar starts: a path
// below Path, whose directory is there.
func (b *Balancer) SetConfig(name string) error {
	b.config = name
	return b.writeSettings()
}

// SetHAProxy adds settings below haproxy to the sidecar's file: whole lines of
// YAML, indented by two spaces.
func (b *Balancer) SetHAProxy(yaml string) error {
	b.haproxy = yaml
	return b.writeSettings()
}

// Settings is the sidecar's file.
func (b *Balancer) Settings() string { return b.Path("sidecar.yaml") }

// URL is where HAProxy serves a service.
func (b *Balancer) URL(service string) string {
	for _, s := range b.services {
		if s.Name == service {
			return "http://" + local(s.Port) + "/"
		}
	}
	return ""
}

// StatsURL is HAProxy's statistics page.
func (b *Balancer) StatsURL() string { return "http://" + local(b.StatsPort) + "/" }

// StatusURL is the sidecar's own address.
func (b *Balancer) StatusURL() string { return "http://" + local(b.StatusPort) }

func (b *Balancer) target() sidecarapi.Target { return sidecarapi.Target{URL: b.StatusURL()} }

// SetServices writes the sidecar's file. A running sidecar reads it on Reread.
func (b *Balancer) SetServices(services ...Service) error {
	b.services = nil
	for _, s := range services {
		if !s.BackendOnly {
			if err := b.lab.portsFor(&s.Port); err != nil {
				return err
			}
		}
		b.services = append(b.services, s)
	}
	return b.writeSettings()
}

// Services is what SetServices has set, with the ports filled in.
func (b *Balancer) Services() []Service { return b.services }

// SetExtra adds settings to the sidecar's file: whole lines of YAML.
func (b *Balancer) SetExtra(yaml string) error {
	b.extra = yaml
	return b.writeSettings()
}

// SetEnviron sets variables that the sidecar is started with, as NAME=value.
func (b *Balancer) SetEnviron(environ ...string) { b.environ = environ }

// SetOpenFiles sets how many files the sidecar may have open, when it is started.
func (b *Balancer) SetOpenFiles(limit int) { b.files = limit }

func (b *Balancer) writeSettings() error {
	var y strings.Builder
	fmt.Fprintf(&y, "name: %s\nconsul:\n  address: %s\n", b.Name, b.consul.Address())
	fmt.Fprintf(&y, "haproxy:\n  socket: %s\n  master_socket: %s\n  config: %s\n", b.Socket(), b.Master(), b.Config())
	fmt.Fprintf(&y, "  check_command: [%s, -c, -f, \"{file}\"]\n", b.lab.programs.HAProxy)
	if !strings.Contains(b.haproxy, "  global:") { // the lab's HAProxy runs as the lab does
		y.WriteString("  global: {user: \"\", group: \"\", chroot: \"\", stats_socket_group: \"\"}\n")
	}
	fmt.Fprintf(&y, "  stats: {bind: %q}\n%s", local(b.StatsPort), b.haproxy)
	if b.PeerPort != 0 {
		fmt.Fprintf(&y, "  peers: {address: %q}\n", local(b.PeerPort))
	}
	if b.joined != "" {
		fmt.Fprintf(&y, "  health: {bind: %q}\nregistration: {service: %s, port: %d}\n", local(b.HealthPort), b.joined, b.services[0].Port)
	}
	none := ""
	if len(b.services) == 0 {
		none = " []"
	}
	fmt.Fprintf(&y, "api: {address: %q}\n%s\nservices:%s\n", local(b.StatusPort), b.extra, none)
	for _, s := range b.services {
		fmt.Fprintf(&y, "  - name: %s\n", s.Name)
		if !s.BackendOnly {
			fmt.Fprintf(&y, "    bind: %q\n", local(s.Port))
		}
		if s.Backend != "" {
			fmt.Fprintf(&y, "    backend: %s\n", s.Backend)
		}
		if s.Extra != "" {
			y.WriteString(strings.TrimRight(s.Extra, "\n") + "\n")
		}
	}
	if err := os.WriteFile(b.Settings(), []byte(y.String()), 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// StartSidecar starts the sidecar only.
func (b *Balancer) StartSidecar() error {
	command := []string{b.lab.programs.Sidecar, "run", "--config", b.Settings()}
	if b.files > 0 {
		command = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, b.files)}, command...)
	}
	var err error
	b.Sidecar, err = b.lab.startWith(b.Name+"-sidecar", b.environ, command[0], command[1:]...)
	return err
}

// StartHAProxy starts HAProxy in master-worker mode, once there is a file, and
// waits until its runtime socket answers.
func (b *Balancer) StartHAProxy(ctx context.Context) error {
	if err := Until(ctx, 15*time.Second, "the sidecar has written "+b.Config(), func() error {
		_, err := os.Stat(b.Config())
		return err
	}); err != nil {
		return err
	}
	var err error
	b.HAProxy, err = b.lab.Start(b.Name+"-haproxy", b.lab.programs.HAProxy, "-W", "-S", b.Master(), "-f", b.Config())
	if err != nil {
		return err
	}
	return Until(ctx, 10*time.Second, b.Name+"'s HAProxy answers", func() error {
		if !b.HAProxy.Running() {
			return fmt.Errorf("it has ended:\n%s", b.HAProxy.Tail(10))
		}
		_, err := b.WorkerPID(ctx)
		if err == nil { // a master that still executes itself once more is killed by SIGTERM
			_, err = b.OldWorkers(ctx)
		}
		return err
	})
}

// Start starts the sidecar, then HAProxy behind it, and waits until the
// sidecar is ready.
func (b *Balancer) Start(ctx context.Context) error {
	if err := b.StartSidecar(); err != nil {
		return err
	}
	if err := b.StartHAProxy(ctx); err != nil {
		return err
	}
	return b.Ready(ctx, 15*time.Second)
}

// Ready waits until the sidecar says that it is ready.
func (b *Balancer) Ready(ctx context.Context, limit time.Duration) error {
	return Until(ctx, limit, b.Name+"'s sidecar is ready", func() error {
		if !b.Sidecar.Running() {
			return fmt.Errorf("it has ended:\n%s", b.Sidecar.Tail(10))
		}
		return b.lab.getJSON(ctx, b.StatusURL()+"/readyz", nil)
	})
}

// Reread makes the sidecar read its file again.
func (b *Balancer) Reread() error { return b.Sidecar.Signal(syscall.SIGHUP) }

// Instance is one instance as the sidecar tells of it.
type Instance struct {
	ID       string `json:"id"`
	Server   string `json:"server"`
	Addr     string `json:"address"`
	Version  string `json:"version"`
	Health   string `json:"health"`
	Phase    string `json:"phase"`
	Admin    string `json:"admin"`
	Weight   int    `json:"weight"`
	Sessions int    `json:"sessions"`
}

// State is what the lab reads of /api/v1/state.
type State struct {
	Behind struct {
		Changes int       `json:"changes"`
		Since   time.Time `json:"since"`
	} `json:"behind"`
	HAProxy struct {
		Running     bool   `json:"running"`
		Version     string `json:"version"`
		PID         int    `json:"pid"`
		Maintenance bool   `json:"maintenance"`
	} `json:"haproxy"`
	Reloads struct {
		Succeeded int    `json:"succeeded"`
		Failed    int    `json:"failed"`
		Pending   string `json:"pending"`
		Error     string `json:"error"`
	} `json:"reloads"`
	File struct {
		Current bool   `json:"current"`
		Error   string `json:"error"`
		LeftOut []struct {
			Service string `json:"service"`
			Error   string `json:"error"`
		} `json:"left_out"`
	} `json:"file"`
	Services []struct {
		Name      string     `json:"name"`
		Instances []Instance `json:"instances"`
	} `json:"services"`
}

// Instances returns the instances of a service.
func (s State) Instances(service string) []Instance {
	for _, svc := range s.Services {
		if svc.Name == service {
			return svc.Instances
		}
	}
	return nil
}

// State asks the sidecar.
func (b *Balancer) State(ctx context.Context) (State, error) {
	var s State
	err := b.lab.sidecars.State(ctx, b.target(), &s)
	return s, err
}

// StateJSON is the sidecar's answer as it came.
func (b *Balancer) StateJSON(ctx context.Context) ([]byte, error) {
	var body json.RawMessage
	err := b.lab.sidecars.State(ctx, b.target(), &body)
	return body, err
}

// Routes waits until HAProxy routes a service to exactly these instances, by
// ID, and they are up.
func (b *Balancer) Routes(ctx context.Context, limit time.Duration, service string, ids ...string) error {
	return Until(ctx, limit, fmt.Sprintf("%s routes %s to %v", b.Name, service, ids), func() error {
		s, err := b.State(ctx)
		if err != nil {
			return err
		}
		up := map[string]bool{}
		for _, i := range s.Instances(service) {
			if i.Phase == "up" {
				up[i.ID] = true
			}
		}
		for _, id := range ids {
			if !up[id] {
				err = errors.Join(err, fmt.Errorf("%s is not up", id))
			}
			delete(up, id)
		}
		for id := range up {
			err = errors.Join(err, fmt.Errorf("%s is still up", id))
		}
		return err
	})
}
