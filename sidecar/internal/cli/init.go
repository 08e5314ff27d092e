package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/daemon"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

const (
	// initBase and initConfig are the two files of include mode, where the settings
	// of the command do not say otherwise.
	initBase   = "/etc/haproxy/haproxy.cfg"
	initConfig = "/var/lib/pointsman/pointsman.cfg"
)

func initCommand(env Env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "init [SERVICE]...",
		Short: "Write a first settings file from the running HAProxy and Consul",
		Long: `Write a commented settings file. It has a service for each backend of the running
HAProxy that is named as a service in Consul, or for the services that are named.
Your haproxy.cfg stays yours (include mode). An existing file is not overwritten.

HAProxy and Consul are found by the same flags and variables as by other commands,
such as --haproxy-socket and --consul-address; those that are not the default are
written into the file. Exit codes: 0 written, 1 HAProxy or Consul does not answer,
or the file exists, 2 invalid arguments or settings.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			cfg, err := loadWithout(cmd, env)
			if err != nil {
				return err
			}
			text, err := initialSettings(cmd.Context(), cfg, names)
			if err != nil {
				return failure(err)
			}
			if output == "-" {
				_, err = fmt.Fprint(env.Stdout, text)
				return failure(err)
			}
			if err := writeNew(output, text); err != nil {
				return failure(err)
			}
			_, err = fmt.Fprintf(env.Stdout, "written: %s\nread it, then: pointsman render --write, restart HAProxy with -f of both files, pointsman check, pointsman run\n", output)
			return failure(err)
		},
	}
	cmd.Flags().StringVar(&output, "output", config.DefaultFile, "`file` to write, which must not exist; - is the standard output")
	return cmd
}

// writeNew writes a file that is not there. On a new machine its directory is not either.
func writeNew(path, text string) error {
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as /etc
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // there is no secret in it
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already; --output names another file", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// initialSettings asks HAProxy and Consul, and makes the file of it. What it gives
// is a file that Load takes.
func initialSettings(ctx context.Context, cfg config.Config, names []string) (string, error) {
	cfg.HAProxy.BaseConfig = cmp.Or(cfg.HAProxy.BaseConfig, initBase)
	base, err := render.ReadRegular(cfg.HAProxy.BaseConfig)
	if err != nil {
		return "", fmt.Errorf("your haproxy.cfg (haproxy.base_config): %w", err)
	}
	p, err := daemon.NewProxy(cfg, hclog.NewNullLogger(), nil)
	if err != nil {
		return "", err
	}
	runs, err := p.Proxies(ctx)
	if err != nil {
		return "", fmt.Errorf("read HAProxy at %s: %w", cfg.HAProxy.Socket, err)
	}
	client, services, err := catalogServices(ctx, cfg)
	if err != nil {
		return "", fmt.Errorf("list services at %s: %w", cfg.Consul.Address, err)
	}
	m := initMatch(services, names, runs.Names, render.Proxies(base), cfg.API.Service)
	if len(m.services) == 0 && len(m.others) == 0 {
		return "", fmt.Errorf("list services at %s: there is none; register an instance first (registrator run), or name the services that are to come: pointsman init SERVICE", cfg.Consul.Address)
	}
	if len(m.services) == 0 {
		return "", fmt.Errorf("no backend of HAProxy is named as a service in Consul; name the services: pointsman init SERVICE...; Consul lists %s", strings.Join(m.others, ", "))
	}
	for i := range m.services {
		if err := m.services[i].findCheck(ctx, client); err != nil {
			return "", err
		}
	}
	text := settingsText(cfg, m)
	_, err = config.Load(config.Sources{Hostname: "localhost", ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
	if err != nil {
		return "", fmt.Errorf("the settings found are not valid: %w", err)
	}
	return text, nil
}

// initService is a service for the file.
type initService struct {
	name    string // in Consul
	backend string // "" is the name
	matches string // the backend of HAProxy that has led to it; "" is none
	isOwn   bool   // and which is in the operator's own file
	path    string // of Consul's HTTP check; "" is not known
	isHTTP  bool   // Consul's check is one
}

type initMatched struct {
	services []initService
	others   []string // further services in Consul
}

// plainName is a service name that can stand anywhere: what anyone has registered
// under another one is left out.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// initMatch finds the services for the file: those named, or those with a backend of
// their name.
func initMatch(inConsul, named, running, own []string, sidecar string) (m initMatched) {
	backends := map[string]string{}
	for _, proxy := range running {
		if kind, name, _ := strings.Cut(proxy, " "); kind != "frontend" {
			backends[bareName(name)] = name
		}
	}
	isOwn := func(name string) bool {
		return slices.ContainsFunc(own, func(p string) bool { return strings.HasSuffix(p, " "+name) })
	}
	add := func(service, backend string) {
		s := initService{name: service, matches: backend, isOwn: isOwn(cmp.Or(backend, service))}
		if isOwn(service) {
			s.backend = "consul." + service
		}
		m.services = append(m.services, s)
	}
	for _, service := range named {
		add(service, backends[bareName(service)])
	}
	for _, service := range inConsul {
		backend, has := backends[bareName(service)]
		switch {
		case service == "consul", service == sidecar, slices.Contains(named, service):
		case has && len(named) == 0 && plainName.MatchString(service):
			add(service, backend)
		default:
			m.others = append(m.others, catalog.Printable(service))
		}
	}
	return m
}

// bareName is a name without what people add to a backend's name.
func bareName(name string) string {
	name = strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(name))
	for _, affix := range []string{"be_", "bk_", "backend_"} {
		name = strings.TrimPrefix(name, affix)
	}
	for _, affix := range []string{"_be", "_bk", "_backend", "_nodes", "_servers"} {
		name = strings.TrimSuffix(name, affix)
	}
	return name
}

// findCheck takes the path of Consul's own HTTP check, for HAProxy's. Consul has it in
// what the check came to. In the catalog that may be some minutes old, and missing at
// first; the agent has it of its own services.
func (s *initService) findCheck(ctx context.Context, client *api.Client) error {
	checks, _, err := client.Health().Checks(s.name, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("list checks of %s: %w", s.name, err)
	}
	for _, c := range checks {
		s.take(c.Type, c.Output)
	}
	if !s.isHTTP || s.path != "" {
		return nil
	}
	local, err := client.Agent().ChecksWithFilterOpts("", (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("list checks of the agent: %w", err)
	}
	for _, c := range local {
		if c.ServiceName == s.name {
			s.take(c.Type, c.Output)
		}
	}
	return nil
}

func (s *initService) take(kind, output string) {
	if kind != "http" {
		return
	}
	s.isHTTP = true
	asked := httpCheck.FindStringSubmatch(output)
	if s.path != "" || asked == nil {
		return
	}
	if u, err := url.Parse(asked[1]); err == nil && plainPath.MatchString(u.RequestURI()) {
		s.path = u.RequestURI()
	}
}

var (
	httpCheck = regexp.MustCompile(`^HTTP (?:GET|HEAD) (\S+): `)
	plainPath = regexp.MustCompile(`^/[A-Za-z0-9/_.~%?=&-]*$`)
)

// settingsText is the file.
func settingsText(cfg config.Config, m initMatched) string {
	var t strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&t, format+"\n", args...) }
	def, err := config.Load(config.Sources{Hostname: "localhost", NoServices: true, ReadFile: func(string) ([]byte, error) { return nil, fs.ErrNotExist }})
	if err != nil {
		panic(err) // the defaults are valid
	}
	unlike := func(indent, key, value, def string) {
		if value != def {
			line("%s%s: %s", indent, key, strconv.Quote(value))
		}
	}
	h := cfg.HAProxy
	line("# The settings of Pointsman on this load balancer, written by `pointsman init`.")
	line("# docs/configuration.md lists all settings; `pointsman check` checks them.")
	line("")
	line("# The name of this load balancer in Consul, in logs and on the status page.")
	line("# Default: the host name.")
	line("#name: lb0")
	consulText(cfg, def, line)
	line("\nhaproxy:")
	line("  # Your haproxy.cfg, which stays yours. It has the frontends, and sends traffic to the")
	line("  # services' backends by default_backend and use_backend.")
	line("  base_config: %s", strconv.Quote(h.BaseConfig))
	line("  # The sidecar's file. HAProxy loads it after yours: -f %s -f this file.", h.BaseConfig)
	file := h.Config
	if file == def.HAProxy.Config {
		file = initConfig
	}
	line("  config: %s", strconv.Quote(file))
	unlike("  ", "socket", h.Socket, def.HAProxy.Socket)
	unlike("  ", "master_socket", h.MasterSocket, def.HAProxy.MasterSocket)
	if !slices.Equal(h.CheckCommand, def.HAProxy.CheckCommand) {
		quoted := make([]string, 0, len(h.CheckCommand))
		for _, word := range h.CheckCommand {
			quoted = append(quoted, strconv.Quote(word))
		}
		line("  check_command: [%s]", strings.Join(quoted, ", "))
	}
	line("\napi:")
	line("  # Status page, metrics and API. Leaving instances ask here, from their machines: use an")
	line("  # address that they reach, such as 0.0.0.0:9600. Then api.token_file and api.tls.* say")
	line("  # who may ask.")
	line("  address: %s", strconv.Quote(cfg.API.Address))
	line("\nservices:")
	for _, s := range m.services {
		s.text(line)
	}
	if len(m.others) > 0 {
		line("\n  # Consul also lists: %s", strings.Join(m.others, ", "))
	}
	return t.String()
}

// consulText has each setting of Consul's that is not as by default. Secrets are named
// only: the file may be read by others.
func consulText(cfg, def config.Config, line func(string, ...any)) {
	values, err := json.Marshal(cfg)
	if err != nil {
		panic(err) // settings are texts, numbers and lists of them
	}
	var is struct{ Consul map[string]json.RawMessage }
	if err := json.Unmarshal(values, &is); err != nil {
		panic(err)
	}
	var lines, secrets []string
	for _, key := range config.Changed(def, cfg) {
		switch name, isConsuls := strings.CutPrefix(key, "consul."); {
		case !isConsuls:
		case key == "consul.token", key == "consul.http_auth":
			secrets = append(secrets, key)
		default:
			lines = append(lines, fmt.Sprintf("  %s: %s", name, is.Consul[name])) // JSON's values are YAML's
		}
	}
	for _, key := range secrets {
		line("\n# %s was given to `pointsman init`, and is not written here: a secret.", key)
		line("# Give it to `pointsman run`, too: by its variable or, for the token, by consul.token_file.")
	}
	if len(lines) > 0 {
		line("\nconsul:\n%s", strings.Join(lines, "\n"))
	}
}

func (s initService) text(line func(string, ...any)) {
	if s.matches != "" {
		line("  # HAProxy has a backend %s.", s.matches)
	}
	line("  - name: %s", strconv.Quote(s.name))
	if s.backend != "" {
		line("    # Your haproxy.cfg has one of that name, so this is another. Send traffic here with")
		line("    # `use_backend %s`. To use the name %s later: docs/include.md, \"A change of both halves\".", s.backend, s.name)
		line("    backend: %s", strconv.Quote(s.backend))
	} else if s.isOwn {
		line("    # It replaces that one: send traffic here with `use_backend %s`.", s.name)
	}
	switch {
	case s.path != "":
		line("    # HAProxy's own check of each server, as Consul's check of the service has it.")
		line("    check: {path: %s}", strconv.Quote(s.path))
		return
	case s.isHTTP:
		line("    # HAProxy's own check of each server. Consul's check is by HTTP; its")
		line("    # path is unknown until it has run once. Check this path:")
		line("    check: {path: /healthz}")
		return
	}
	line("    # HAProxy's own check of each server only connects: Consul has no HTTP check of it.")
	line("    check: {path: \"\"}")
	line("    # mode: tcp")
}
