package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

const file = "/etc/pointsman/sidecar.yaml"

// input is one call of Load.
type input struct {
	args []string
	env  []string
	yaml string // "" is no file
	path string // "" is the default
	host string // "" is lb0

	noServices bool
	foreign    []string
}

func load(t *testing.T, in input) (config.Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("sidecar", pflag.ContinueOnError)
	config.RegisterFlags(flags)
	if err := flags.Parse(in.args); err != nil {
		t.Fatalf("parse flags: %v", err)
	}
	if in.path == "" {
		in.path = file
	}
	if in.host == "" {
		in.host = "lb0"
	}
	return config.Load(config.Sources{
		Flags: flags, Environ: in.env, Hostname: in.host, NoServices: in.noServices, IgnoredEnv: in.foreign,
		ReadFile: func(path string) ([]byte, error) {
			if path != in.path || in.yaml == "" {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return []byte(in.yaml), nil
		},
	})
}

func mustLoad(t *testing.T, in input) config.Config {
	t.Helper()
	c, err := load(t, in)
	if err != nil {
		t.Fatalf("Load(%+v): %v", in, err)
	}
	return c
}

func TestDefaultsAreThoseOfTheIssue(t *testing.T) {
	got := mustLoad(t, input{yaml: "services:\n- name: api\n"})
	want := config.Config{
		File: file,
		Name: "lb0",
		Consul: config.Consul{
			Address: "127.0.0.1:8500", Wait: 5 * time.Minute,
		},
		HAProxy: config.HAProxy{
			Socket: "/run/haproxy/admin.sock", MasterSocket: "/run/haproxy-master.sock",
			Config:       "/etc/haproxy/haproxy.cfg",
			CheckCommand: []string{"haproxy", "-c", "-f", "{file}"}, ReloadCommand: []string{},
			Timeout: 3 * time.Second, ReloadTimeout: 30 * time.Second,
			Log:    "stdout format raw local0",
			Global: config.Global{User: "haproxy", Group: "haproxy", Chroot: "/var/lib/haproxy", StatsSocketGroup: "haproxy", HardStopAfter: 30 * time.Second, MaxReloads: 10, StatsSocketMode: "660", Extra: []string{}},
			Defaults: config.Defaults{
				Timeouts: config.Timeouts{
					Connect: time.Second, Client: 30 * time.Second, Server: 30 * time.Second, Queue: 5 * time.Second,
					HTTPRequest: 10 * time.Second, HTTPKeepAlive: 10 * time.Second, Tunnel: time.Hour,
				},
				Extra: []string{},
			},
			Stats: config.Stats{URI: "/"}, Exporter: config.Exporter{URI: "/metrics"},
			Health: config.Health{URI: "/"}, Sections: []string{},
		},
		Registration: config.Registration{
			Tags:  []string{},
			Check: config.BalancerCheck{Interval: time.Second, Timeout: time.Second}, DeregisterAfter: time.Minute,
		},
		Discovery: config.Discovery{ProfileMeta: "pointsman-profile", Grace: 30 * time.Second, MaxServices: 100, MaxRoutes: 100},
		Services: []config.Service{{
			Name: "api", Backend: "api", Bind: []string{}, Mode: config.HTTP, Balance: "roundrobin",
			Tags: []string{}, WarningTakesTraffic: true, Addresses: config.Addresses{Allow: []string{}, Deny: []string{}},
			Check: config.Check{
				Enabled: true, Type: config.CheckHTTP, Path: "/healthz", Inter: time.Second, FastInter: 250 * time.Millisecond,
				DownInter: 250 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3,
			},
			Slots:        config.Slots{Min: 10, Spare: 4},
			DrainTimeout: 30 * time.Second, DrainSticky: config.StickyKeep, SessionKillAfter: 5 * time.Second, ReplacementTimeout: 30 * time.Second,
			MinServers: 1, Guard: config.Guard{MaxLossRatio: 0.5, Window: 30 * time.Second, HoldDeregistered: 10 * time.Minute},
			Damping: config.Damping{Flaps: 3, Min: 10 * time.Second, Max: 5 * time.Minute, Forget: 10 * time.Minute},
			RetryOn: []string{"conn-failure", "empty-response"},
			Policy: config.Policy{
				Retries: 3, Sticky: config.Sticky{Clients: 100_000, Expire: 30 * time.Minute}, AgentCheck: config.AgentCheck{Interval: 500 * time.Millisecond}, Outlier: config.Outlier{Observe: config.ObserveNone, ErrorLimit: 10, OnError: "mark-down"},
				Upstream:       config.Upstream{Protocol: "h1", Verify: true, ProxyProtocol: "none"},
				AllowedSources: []string{}, RateLimit: config.RateLimit{Per: 10 * time.Second, Clients: 100_000},
				BasicAuth: config.BasicAuth{Users: []config.Secret{}}, Compression: []string{},
			},
			FrontendExtra: []string{}, BackendExtra: []string{},
		}},
		Reload:            config.Reload{Debounce: 100 * time.Millisecond, MaxDelay: time.Second, MinInterval: 2 * time.Second, MaxOldWorkers: 3},
		ReconcileInterval: 2 * time.Second, FileDelay: 100 * time.Millisecond,
		Addresses: config.Addresses{Allow: []string{}, Deny: []string{}},
		API:       config.API{Address: "127.0.0.1:9600", Socket: "/etc/haproxy/haproxy.cfg.api.sock", MaxConnections: 8192, MaxPerAddress: 1024, Hosts: []string{}, Service: "pointsman-sidecar"},
		Log:       config.Log{Level: "info", Format: config.LogText},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("Load (-got +want):\n%s", diff)
	}
}

func TestTheStrongerSourceWins(t *testing.T) {
	// Each case adds the next stronger source.
	in := input{yaml: "services: []\n"}
	steps := []struct {
		add  func()
		want string
	}{
		{func() {}, "127.0.0.1:8500"},
		{func() { in.env = append(in.env, "CONSUL_HTTP_ADDR=https://consul-env:8501") }, "https://consul-env:8501"},
		{func() { in.yaml += "consul: {address: file:1}\n" }, "file:1"},
		{func() { in.env = append(in.env, "POINTSMAN_CONSUL_ADDRESS=env:2") }, "env:2"},
		{func() { in.args = []string{"--consul-address", "flag:3"} }, "flag:3"},
	}
	for _, s := range steps {
		s.add()
		if got := mustLoad(t, in).Consul.Address; got != s.want {
			t.Errorf("with %+v: consul.address = %q, want %q", in, got, s.want)
		}
	}
}

func TestConsulsOwnEnvironmentWorks(t *testing.T) {
	got := mustLoad(t, input{yaml: "services: []\n", env: []string{
		"CONSUL_HTTP_ADDR=unix:///run/consul.sock", "CONSUL_HTTP_TOKEN=t0k", "CONSUL_HTTP_SSL=true",
		"CONSUL_HTTP_SSL_VERIFY=false", "CONSUL_CACERT=/ca", "CONSUL_CAPATH=/cas", "CONSUL_CLIENT_CERT=/cert",
		"CONSUL_CLIENT_KEY=/key", "CONSUL_TLS_SERVER_NAME=server.dc1.consul", "CONSUL_NAMESPACE=ns",
		"CONSUL_PARTITION=part", "CONSUL_HTTP_AUTH=user:pw", "CONSUL_HTTP_TOKEN_FILE=",
	}}).Consul
	want := config.Consul{
		Address: "unix:///run/consul.sock", Token: "t0k", SSL: true, InsecureSkipVerify: true,
		CAFile: "/ca", CAPath: "/cas", CertFile: "/cert", KeyFile: "/key", ServerName: "server.dc1.consul",
		Namespace: "ns", Partition: "part", HTTPAuth: "user:pw", Wait: 5 * time.Minute,
	}
	if got != want {
		t.Errorf("consul = %+v (token %q), want %+v", got, got.Token.Reveal(), want)
	}
}

func TestACommandThatRoutesNothingNeedsNoServices(t *testing.T) {
	got := mustLoad(t, input{noServices: true, args: []string{"--consul-address=c:8500"}})
	if got.Consul.Address != "c:8500" || len(got.Services) != 0 {
		t.Errorf("got consul.address %q and %d services, want c:8500 and none", got.Consul.Address, len(got.Services))
	}
	// A whole sidecar's file will do, and so will part of one.
	for _, yaml := range []string{"services:\n- {name: api}\n", "consul: {address: \"d:8500\"}\nregistration: {service: lb}\n"} {
		mustLoad(t, input{noServices: true, yaml: yaml})
	}
	for want, in := range map[string]input{
		"consul.cert_file": {noServices: true, args: []string{"--consul-cert-file=/c"}},
		"no such setting":  {noServices: true, env: []string{"POINTSMAN_CONSUL_ADRESS=x"}},
		"consul.wait":      {noServices: true, yaml: "consul: {wait: 30}\n"},
	} {
		if _, err := load(t, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%+v): got %v, want an error with %q", in, err, want)
		}
	}
}

func TestAForeignVariableIsPassedOverAndNoOther(t *testing.T) {
	in := input{yaml: "services: []\n", env: []string{"POINTSMAN_VERSION=1.1", "POINTSMAN_NAME=lb7"}, foreign: []string{"POINTSMAN_VERSION", "POINTSMAN_NAME"}}
	if got := mustLoad(t, in).Name; got != "lb7" {
		t.Errorf("name: got %q, want lb7: no setting is foreign", got)
	}
	in.env = append(in.env, "POINTSMAN_VERSIONS=1.1")
	if _, err := load(t, in); err == nil || err.Error() != "POINTSMAN_VERSIONS: no such setting" {
		t.Errorf("got %v, want one error, of the variable that is no setting", err)
	}
}

func TestOneTokenIsUsed(t *testing.T) {
	for _, c := range []struct {
		name        string
		in          input
		token, file string
	}{
		{"the environment's token before the file's token_file", input{yaml: "services: []\nconsul: {token_file: /f}\n", env: []string{"POINTSMAN_CONSUL_TOKEN=env"}}, "env", ""},
		{"the flag's token_file before the environment's token", input{yaml: "services: []\n", args: []string{"--consul-token-file=/f"}, env: []string{"POINTSMAN_CONSUL_TOKEN=env"}}, "", "/f"},
		{"the file before Consul's own variable", input{yaml: "services: []\nconsul: {token_file: /f}\n", env: []string{"CONSUL_HTTP_TOKEN=c"}}, "", "/f"},
		{"token_file, of Consul's own variables, as its clients do", input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_TOKEN=c", "CONSUL_HTTP_TOKEN_FILE=/f"}}, "", "/f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := mustLoad(t, c.in).Consul
			if got.Token.Reveal() != c.token || got.TokenFile != c.file {
				t.Errorf("token %q, token_file %q, want %q and %q", got.Token.Reveal(), got.TokenFile, c.token, c.file)
			}
		})
	}
}

func TestListsAreTakenFromEverySource(t *testing.T) {
	want := []string{"systemctl", "reload", "haproxy"}
	empty := mustLoad(t, input{yaml: "services: []\n", env: []string{"POINTSMAN_HAPROXY_CHECK_COMMAND="}}).HAProxy.CheckCommand
	if len(empty) != 0 {
		t.Errorf("an empty variable: check_command = %q, want none", empty)
	}
	for name, in := range map[string]input{
		"file":           {yaml: "services: []\nhaproxy: {reload_command: [systemctl, reload, haproxy]}\n"},
		"environment":    {yaml: "services: []\n", env: []string{`POINTSMAN_HAPROXY_RELOAD_COMMAND=["systemctl", "reload", "haproxy"]`}},
		"one flag":       {yaml: "services: []\n", args: []string{"--haproxy-reload-command", "[systemctl, reload, haproxy]"}},
		"repeated flags": {yaml: "services: []\n", args: []string{"--haproxy-reload-command=systemctl", "--haproxy-reload-command=reload", "--haproxy-reload-command=haproxy"}},
	} {
		if got := mustLoad(t, in).HAProxy.ReloadCommand; !cmp.Equal(got, want) {
			t.Errorf("%s: reload_command = %q, want %q", name, got, want)
		}
	}
}

func TestABlockOfTextIsAListOfLines(t *testing.T) {
	got := mustLoad(t, input{yaml: "services:\n- name: api\n  backend_extra: |\n    # sticky\n    balance source\n\n    option httplog\n"}).Services[0].BackendExtra
	if want := []string{"# sticky", "balance source", "option httplog"}; !cmp.Equal(got, want) {
		t.Errorf("backend_extra = %q, want %q", got, want)
	}
}

func TestAnEmptyValueIsNotTheDefault(t *testing.T) {
	got := mustLoad(t, input{
		yaml: "services:\n- {name: api, check: {path: \"\"}, retry_on: []}\nhaproxy: {check_command: []}\n",
		env:  []string{"POINTSMAN_HAPROXY_MASTER_SOCKET="},
	})
	if s := got.Services[0]; s.Check.Path != "" || len(s.RetryOn) != 0 || len(got.HAProxy.CheckCommand) != 0 || got.HAProxy.MasterSocket != "" {
		t.Errorf("check.path %q, retry_on %q, check_command %q, master_socket %q, want all empty",
			s.Check.Path, s.RetryOn, got.HAProxy.CheckCommand, got.HAProxy.MasterSocket)
	}
}

// A service that is added must not move the clients of the others to its port:
// seen in the sample, where all their requests failed.
func TestTheBalancersPortIsTheOneThatTheServicesBind(t *testing.T) {
	one := "services:\n- {name: db, bind: /run/db.sock}\n- {name: api, bind: [\"*:80 defer-accept\", \"127.0.0.1:80\"]}\n"
	several := one + "- {name: web, bind: \":82\"}\n"
	on := "haproxy: {health: {bind: \":8405\"}}\nregistration: {service: lb"
	for _, c := range []struct {
		yaml string
		want int
	}{{one + on + "}\n", 80}, {several + on + ", port: 443}\n", 443}, {several, 0}} {
		if got := mustLoad(t, input{yaml: c.yaml}).Registration.Port; got != c.want {
			t.Errorf("with %s registration.port = %d, want %d", c.yaml, got, c.want)
		}
	}
}

func TestModeTCPHasNoHTTPDefaults(t *testing.T) {
	s := mustLoad(t, input{yaml: "services:\n- {name: db, mode: tcp, bind: \":5432\"}\n"}).Services[0]
	if s.Check.Path != "" || len(s.RetryOn) != 0 {
		t.Errorf("check.path %q, retry_on %q, want none in mode tcp", s.Check.Path, s.RetryOn)
	}
}

func TestAnAnchorIsFollowed(t *testing.T) {
	c := mustLoad(t, input{yaml: "services:\n- {name: a, tags: &t [x], check: &c {rise: 5}}\n- {name: b, tags: *t, check: *c}\n"})
	if got := c.Services[1]; got.Check.Rise != 5 || !cmp.Equal(got.Tags, []string{"x"}) {
		t.Errorf("services[b].check.rise = %d, tags = %q, want 5 and x, from the anchors", got.Check.Rise, got.Tags)
	}
}

func TestASectionWithoutKeysIsAllDefaults(t *testing.T) {
	got := mustLoad(t, input{yaml: "services: []\nconsul:\n  # address: x\n"}).Consul.Address
	if want := "127.0.0.1:8500"; got != want {
		t.Errorf("consul.address = %q, want %q", got, want)
	}
}

func TestAFlagThatIsOnOrOffNeedsNoValue(t *testing.T) {
	if !mustLoad(t, input{yaml: "services: []\n", args: []string{"--consul-ssl"}}).Consul.SSL {
		t.Error("--consul-ssl: consul.ssl is false, want true")
	}
}

func TestOfTwoVariablesWithOneNameTheFirstCounts(t *testing.T) {
	got := mustLoad(t, input{yaml: "services: []\n", env: []string{"POINTSMAN_NAME=a", "POINTSMAN_NAME=b"}}).Name
	if got != "a" {
		t.Errorf("name = %q, want a, as os.Getenv would give", got)
	}
}

func TestLoadTellsAllThatIsWrongAtOnce(t *testing.T) {
	_, err := load(t, input{
		yaml: strings.Join([]string{
			"consul:",             // 1
			"  adress: x",         // 2
			"  wait: 30",          // 3
			"reload:",             // 4
			"  max_old_workers: ", // 5
			"services:",           // 6
			"- name: api",         // 7
			"  bind: \"*:70000\"", // 8
			"  name: api2",        // 9
		}, "\n"),
		env:  []string{"POINTSMAN_CONSOLE_TOKEN=hush-hush", "POINTSMAN_LOG_LEVEL=loud"},
		args: []string{"--reload-debounce=5s", "--haproxy-global-threads=many"},
	})
	want := []string{
		`POINTSMAN_CONSOLE_TOKEN: no such setting; did you mean POINTSMAN_CONSUL_TOKEN?`,
		file + `:2: consul.adress: no such setting; did you mean address?`,
		file + `:3: consul.wait "30": has no unit: write 30s for seconds, 30ms for milliseconds`,
		file + `:5: reload.max_old_workers: has no value; write "" for none`,
		file + `:9: services[api].name: is set twice, first in line 7`,
		file + `:8: services[api].bind "*:70000": item 1, "*:70000": port "70000" must be a number from 1 to 65535`,
		`--haproxy-global-threads: haproxy.global.threads "many": must be a whole number, 0 to 4096`,
		`POINTSMAN_LOG_LEVEL: log.level "loud": must be trace, debug, info, warn or error`,
		`--reload-debounce: reload.debounce "5s": is more than reload.max_delay, 1s`,
	}
	if diff := cmp.Diff(strings.Split(fmt.Sprint(err), "\n"), want); diff != "" {
		t.Errorf("errors (-got +want):\n%s", diff)
	}
	var first *config.Error
	if !errors.As(err, &first) || first.Source != "POINTSMAN_CONSOLE_TOKEN" {
		t.Errorf("errors.As gave %+v, want the first *Error", first)
	}
}

func TestLoadRefuses(t *testing.T) {
	service := func(rest string) string { return "services:\n- name: api\n  " + rest + "\n" }
	for _, c := range []struct {
		name string
		in   input
		want string // the one error
	}{
		{"no services at all", input{yaml: "log: {level: info}\n"}, file + `: services: must be set; write [] for none`},
		{"an empty file", input{yaml: "# nothing\n"}, file + `: services: must be set; write [] for none`},
		{"no file", input{}, file + `: services: must be set, and the file does not exist`},
		{"a named file that is missing", input{args: []string{"--config=/x.yaml"}}, `--config: config "/x.yaml": cannot be read: open /x.yaml: file does not exist`},
		{"services as null", input{yaml: "services:\n"}, file + `:1: services: must be a list; write [] for none`},
		{"a service without a name", input{yaml: "services:\n- {bind: \":80\"}\n"}, file + `:2: services[0].name: required`},
		{"a service that is no section", input{yaml: "services:\n- api\n"}, file + `:2: services[0]: must be a section of keys and values`},
		{"a section that is a value", input{yaml: "services: []\nconsul: localhost\n"}, file + `:2: consul: must be a section of keys and values`},
		{"a value that is a section", input{yaml: "services: []\nname: {a: b}\n"}, file + `:2: name: must be a single value`},
		{"a value that is a list", input{yaml: "services: []\nname: [a]\n"}, file + `:2: name: must be a single value`},
		{"a list that is a section", input{yaml: service("tags: {a: b}")}, file + `:3: services[api].tags: must be a list`},
		{"an item that is a list", input{yaml: service("tags: [[a]]")}, file + `:3: services[api].tags: item 1 must be a text`},
		{"YAML that does not parse", input{yaml: "services: []\na: [1\n"}, file + `:1: is not YAML: did not find expected ',' or ']'`},
		{"a second document", input{yaml: "services: []\n---\nname: x\n"}, file + `:2: is not YAML: there is a second document (---): only one is read`},
		{"an unknown anchor, without its name", input{yaml: "services: []\nconsul: {token: *hush}\n"}, file + `: is not YAML: unknown anchor (a value that begins with '*' must be quoted)`},
		{"a dotted key", input{yaml: "services: []\nconsul.address: x\n"}, file + `:2: consul.address: no such setting; keys are nested and not written with dots`},
		{"a key of another section", input{yaml: "services: []\nconsul: {socket: x}\n"}, file + `:2: consul.socket: no such setting; did you mean haproxy.socket?`},
		{"an unknown key far from all", input{yaml: "services: []\nquux: x\n"}, file + `:2: quux: no such setting`},
		{"an unknown section, once", input{yaml: "services: []\nquux: {a: 1, b: 2}\n"}, file + `:2: quux: no such setting`},
		{"an unknown key of a service", input{yaml: service("check: {riese: 1}")}, file + `:3: services[api].check.riese: no such setting; did you mean rise?`},
		{"a renamed section", input{yaml: "services: []\nstatus: {address: \":1\"}\n"}, file + `:2: status: no such setting; it was renamed: api`},
		{"a section of renamed settings", input{yaml: "services: []\nsettle: {min: 1s}\n"}, file + `:2: settle: no such setting; it was renamed: reload.debounce and reload.max_delay`},
		{"a renamed setting of a service", input{yaml: service("max_removal: 0.3")}, file + `:3: services[api].max_removal: no such setting; it was renamed: guard.max_loss_ratio`},
		{"a renamed section's variable", input{yaml: "services: []\n", env: []string{"POINTSMAN_BALANCER_SERVICE=lb"}}, `POINTSMAN_BALANCER_SERVICE: no such setting; it was renamed: POINTSMAN_REGISTRATION_SERVICE`},
		{"a renamed variable", input{yaml: "services: []\n", env: []string{"POINTSMAN_SETTLE_MAX=1s"}}, `POINTSMAN_SETTLE_MAX: no such setting; it was renamed: POINTSMAN_RELOAD_MAX_DELAY`},
		{"the file's own name in the file", input{yaml: "services: []\nconfig: x\n"}, file + `:2: config: no such setting; did you mean haproxy.config?`},
		{"a host name that is no name", input{yaml: "services: []\n", host: "a b"}, `host name: name "a b": may contain only letters, digits, '-', '_' and '.'`},
		{"a malformed variable of Consul's", input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_SSL_VERIFY=perhaps"}}, `CONSUL_HTTP_SSL_VERIFY: consul.insecure_skip_verify "perhaps": must be true or false`},
		{"an empty number", input{yaml: "services: []\n", env: []string{"POINTSMAN_HAPROXY_GLOBAL_THREADS="}}, `POINTSMAN_HAPROXY_GLOBAL_THREADS: haproxy.global.threads: must be a whole number, 0 to 4096`},
		{"a file's value that a flag hides", input{yaml: "services: []\nlog: {level: loud}\n", args: []string{"--log-level=warn"}}, file + `:2: log.level "loud": must be trace, debug, info, warn or error`},
		{"a token and a token file", input{yaml: "services: []\nconsul: {token: hush, token_file: /f}\n"}, file + `:2: consul.token_file "/f": is set together with consul.token: only one can be used`},
		{"an address with a password, without the password", input{yaml: "services: []\n", env: []string{"POINTSMAN_CONSUL_ADDRESS=http://user:hush@10.0.0.1:8500"}}, `POINTSMAN_CONSUL_ADDRESS: consul.address "http://***@10.0.0.1:8500": must be a URL of scheme, host and port; credentials go to consul.http_auth`},
		{"one without a scheme, too", input{yaml: "consul: {address: \"user:hu/sh@10.0.0.1:8500\"}\nservices: []\n"}, file + `:1: consul.address "***@10.0.0.1:8500": must be host:port`},
		{"a token with a newline, without the token", input{yaml: "services: []\n", env: []string{"POINTSMAN_CONSUL_TOKEN=hush\n"}}, `POINTSMAN_CONSUL_TOKEN: consul.token "***": must not contain the control character '\n'`},
		{"a token with a tab, which a header would not have", input{yaml: "services: []\napi: {token: \"hu\\tsh\"}\n"}, file + `:2: api.token "***": must not contain the control character '\t'`},
		{"a token with a space at its end", input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_TOKEN=hush "}}, `CONSUL_HTTP_TOKEN: consul.token "***": must contain only printable ASCII characters and no space`},
		{"a token in letters that a header does not take", input{yaml: "services: []\n", env: []string{"POINTSMAN_API_TOKEN=hüsh"}}, `POINTSMAN_API_TOKEN: api.token "***": must contain only printable ASCII characters and no space`},
		{"a password with a tab", input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_AUTH=user:hu\tsh"}}, `CONSUL_HTTP_AUTH: consul.http_auth "***": must not contain the control character '\t'`},
		{"a status certificate without its key", input{yaml: "services: []\napi: {tls: {cert_file: /c}}\n"}, file + `:2: api.tls.cert_file "/c": needs api.tls.key_file`},
		{"clients' certificates without TLS", input{yaml: "services: []\napi: {tls: {client_ca_file: /c}}\n"}, file + `:2: api.tls.client_ca_file "/c": needs api.tls.cert_file`},
		{"two status tokens", input{yaml: "services: []\napi: {token: se-cret, token_file: /t}\n"}, file + `:2: api.token_file "/t": is set together with api.token: only one can be used`},
		{"a sidecar registered as its load balancer", input{yaml: "services: [{name: api, bind: ':80'}]\napi: {service: lb}\nhaproxy: {health: {bind: ':81'}}\nregistration: {service: lb}\n"}, file + `:2: api.service "lb": is the load balancer's own service: see registration.service`},
		{"an advertised address that is every address", input{yaml: "services: []\napi: {advertise: '0.0.0.0:9600'}\n"}, file + `:2: api.advertise "0.0.0.0:9600": must be the address of one machine`},
		{"a certificate without its key", input{yaml: "services: []\nconsul: {cert_file: /c}\n"}, file + `:2: consul.cert_file "/c": needs consul.key_file`},
		{"an address of no known scheme", input{yaml: "services: []\nconsul: {address: \"ftp://x:1\"}\n"}, file + `:2: consul.address "ftp://x:1": must be host:port, http://…, https://… or unix:///path`},
		{"an address without a port", input{yaml: "services: []\nconsul: {address: localhost}\n"}, file + `:2: consul.address "localhost": must be host:port`},
		{"HAProxy's own spelling of a socket", input{yaml: "services: []\nhaproxy: {socket: unix@/run/x}\n"}, file + `:2: haproxy.socket "unix@/run/x": must be a path or host:port, without unix@`},
		{"a command in one word", input{yaml: "services: []\nhaproxy: {reload_command: systemctl reload haproxy}\n"}, file + `:2: haproxy.reload_command "systemctl reload haproxy": is run without a shell: write a list, [systemctl, reload, haproxy]`},
		{"a check that names no file", input{yaml: "services: []\nhaproxy: {check_command: [haproxy, -c]}\n"}, file + `:2: haproxy.check_command: must name the file to check by {file}`},
		{"a bare duration", input{yaml: service("drain_timeout: 10")}, file + `:3: services[api].drain_timeout "10": has no unit: write 10s for seconds, 10ms for milliseconds`},
		{"a duration in days", input{yaml: service("drain_timeout: 1d")}, file + `:3: services[api].drain_timeout "1d": must be a duration such as 250ms, 30s or 5m`},
		{"a duration that HAProxy cannot count", input{yaml: service("check: {inter: 1500us}")}, file + `:3: services[api].check.inter "1500us": must be whole milliseconds`},
		{"a duration below its bound", input{yaml: service("check: {inter: 0s}")}, file + `:3: services[api].check.inter "0s": must be a duration, 1ms to 1h`},
		{"no rise", input{yaml: service("check: {rise: 0}")}, file + `:3: services[api].check.rise "0": must be a whole number, 1 to 1000`},
		{"a share that is no number", input{yaml: service("guard: {max_loss_ratio: NaN}")}, file + `:3: services[api].guard.max_loss_ratio "NaN": must be a number, 0 to 1`},
		{"a share above one", input{yaml: service("guard: {max_loss_ratio: 50}")}, file + `:3: services[api].guard.max_loss_ratio "50": must be a number, 0 to 1`},
		{"a name with a space", input{yaml: service("backend: a b")}, file + `:3: services[api].backend "a b": may contain only letters, digits, '-', '_' and '.'`},
		{"a service of the health answer's name", input{yaml: service("backend: pointsman.rotation")}, file + `:3: services[api].backend "pointsman.rotation": is reserved for Pointsman in haproxy.cfg`},
		{"a health answer at a service's address", input{yaml: service("bind: \":80\"") + "haproxy: {health: {bind: \"*:80\"}}\n"}, file + `:3: services[api].bind: :80 is already bound by haproxy.health.bind`},
		{"a registered load balancer without a port", input{yaml: "services: []\nregistration: {service: lb, check: {url: \"http://lb0/\"}}\n"}, file + `:2: registration.service "lb": needs registration.port, because no service or frontend binds a port`},
		{"a registered load balancer with several ports", input{yaml: "services: [{name: api, bind: \":80\"}, {name: web, bind: \":81\"}]\nregistration: {service: lb, check: {url: \"http://lb0/\"}}\n"}, file + `:2: registration.service "lb": needs registration.port, because services and frontends bind 2 ports`},
		{"a registered load balancer that nothing checks", input{yaml: service("bind: \":80\"") + "registration: {service: lb}\n"}, file + `:4: registration.service "lb": needs haproxy.health.bind with a port, or registration.check.url, for its health check`},
		{"a load balancer checked by a path", input{yaml: service("bind: \":80\"") + "registration: {service: lb, check: {url: /healthz}}\n"}, file + `:4: registration.check.url "/healthz": must be a URL of http:// or https://, without credentials`},
		{"a load balancer that is everywhere", input{yaml: "services: []\nregistration: {address: 0.0.0.0}\n"}, file + `:2: registration.address "0.0.0.0": must be the address of one machine`},
		{"a load balancer that is forgotten at once", input{yaml: "services: []\nregistration: {deregister_after: 10s}\n"}, file + `:2: registration.deregister_after "10s": must be a duration, 1m to 720h`},
		{"an unknown mode", input{yaml: service("mode: http2")}, file + `:3: services[api].mode "http2": must be http or tcp`},
		{"a newline in a line", input{yaml: service(`backend_extra: ["a\nb"]`)}, file + `:3: services[api].backend_extra: item 1, "a\nb": must not contain the control character '\n'`},
		{"a line that leaves its section", input{yaml: service(`frontend_extra: ["  backend evil"]`)}, file + `:3: services[api].frontend_extra: item 1, "  backend evil": begins another section of haproxy.cfg (backend); only lines of this section can be added`},
		{"another command in a server's options", input{yaml: service(`server_options: "ssl; disable server a/b"`)}, file + `:3: services[api].server_options "ssl; disable server a/b": must not contain the character ';'`},
		{"a comment in a server's options", input{yaml: service(`server_options: "ssl # x"`)}, file + `:3: services[api].server_options "ssl # x": must not contain the character '#'`},
		{"a path with a space", input{yaml: service(`check: {path: "/a b"}`)}, file + `:3: services[api].check.path "/a b": must not contain a space`},
		{"a bind address without a port", input{yaml: service("bind: 127.0.0.1")}, file + `:3: services[api].bind "127.0.0.1": item 1, "127.0.0.1": must be address:port, such as *:80 or 127.0.0.1:8080, or a path`},
		{"a bind address that is a name", input{yaml: service("bind: localhost:80")}, file + `:3: services[api].bind "localhost:80": item 1, "localhost:80": must be an IP address or *, and a port`},
		{"two addresses in one line", input{yaml: service("retry_on: conn-failure 503")}, file + `:3: services[api].retry_on "conn-failure 503": item 1, "conn-failure 503": must be a list: [conn-failure, 503]`},
		{"an unknown retry", input{yaml: service("retry_on: [always]")}, file + `:3: services[api].retry_on: item 1, "always": is not a condition of HAProxy's retry-on`},
		{"retry-on in mode tcp", input{yaml: "services:\n- name: api\n  mode: tcp\n  retry_on: [conn-failure]\n"}, file + `:4: services[api].retry_on: needs mode http`},
		{"a damping that is longer at first than at most", input{yaml: service("damping: {min: 1h}")}, file + `:3: services[api].damping.min "1h": is more than damping.max, 5m`},
		{"a whole section with a dot", input{yaml: "services: []\nhaproxy.global: {maxconn: 1}\n"}, file + `:2: haproxy.global: no such setting`},
		{"a list as null", input{yaml: service("tags:")}, file + `:3: services[api].tags: has no value; write [] for none`},
		{"an item as null", input{yaml: service("tags: [~]")}, file + `:3: services[api].tags: item 1 must be a text`},
		{"a key without its certificate", input{yaml: "services: []\nconsul: {key_file: /k}\n"}, file + `:2: consul.key_file "/k": needs consul.cert_file`},
		{"a socket's path that is too long", input{yaml: "services: []\n", args: []string{"--haproxy-socket=/" + strings.Repeat("x", 107)}}, `--haproxy-socket: haproxy.socket "/` + strings.Repeat("x", 99) + `"…: is longer than a unix socket's path may be, 107 bytes`},
		{"a wrong value, and not what follows from it", input{yaml: "services: []\nreload: {debounce: 5s, max_delay: long}\n"}, file + `:2: reload.max_delay "long": must be a duration such as 250ms, 30s or 5m`},
		{"unknown variables, in order", input{yaml: "services: []\n", env: []string{"POINTSMAN_ZZZZZZZZZ=1", "POINTSMAN_QQQQQQQQQ=1"}}, "POINTSMAN_QQQQQQQQQ: no such setting\nPOINTSMAN_ZZZZZZZZZ: no such setting"},
		{"a mode of a file that is none", input{yaml: "services: []\nhaproxy: {global: {stats_socket_mode: 888}}\n"}, file + `:2: haproxy.global.stats_socket_mode "888": must be a file's mode in octal, such as 660`},
		{"one service twice for one backend", input{yaml: "services:\n- name: api\n- name: api\n  tags: b\n"}, file + `:3: services[1].backend "api": is listed twice: each needs a backend of its own`},
		{"slow start with a static algorithm", input{yaml: service("balance: source\n  slow_start: 10s")}, file + `:4: services[api].slow_start "10s": has no effect with the static algorithm of services[api].balance, source`},
		{"a check of gRPC", input{yaml: service("check: {type: grpc}")}, file + `:3: services[api].check.type "grpc": is not supported: gRPC gives its status in trailers, which HAProxy's checks do not read; use tcp, or http and the port of an HTTP health endpoint by server_options: port N`},
		{"a check of pgsql without a user", input{yaml: service("check: {type: pgsql}")}, file + `:3: services[api].check.type "pgsql": needs a check.user`},
		{"a path for a check that asks for none", input{yaml: service("check: {type: redis, path: /x}")}, file + `:3: services[api].check.path "/x": is of check.type http, and check.type is redis`},
		{"a user for a check that names none", input{yaml: service("check: {user: x}")}, file + `:3: services[api].check.user "x": is of check.type pgsql or mysql, and check.type is http`},
		{"responses observed in mode tcp", input{yaml: service("mode: tcp\n  outlier: {observe: layer7}")}, file + `:4: services[api].outlier.observe "layer7": needs mode http; in mode tcp use layer4`},
		{"outliers without health checks", input{yaml: service("check: {enabled: false}\n  outlier: {observe: layer4}")}, file + `:4: services[api].outlier.observe "layer4": needs check.enabled: a server that is down comes back by its health check`},
		{"a setting that says nothing without another", input{yaml: service("upstream: {sni: x}")}, file + `:3: services[api].upstream.sni: needs upstream.tls`},
		{"TLS without an authority", input{yaml: service("upstream: {tls: true}")}, file + `:3: services[api].upstream.tls "true": needs upstream.ca_file, which signs the servers' certificates; upstream.verify: false accepts any`},
		{"TLS of no name", input{yaml: service("upstream: {tls: true, ca_file: /ca}")}, file + `:3: services[api].upstream.tls "true": needs upstream.sni, the name in the servers' certificates; upstream.verify: false accepts any`},
		{"a line that is in no section", input{yaml: "services: []\nhaproxy: {sections: 'user x'}\n"}, file + ":2: haproxy.sections \"user x\": item 1, \"user x\": must begin a section, such as `userlist NAME`"},
		{"a section that services make", input{yaml: "services: []\nhaproxy:\n  sections: |\n    userlist x\n    backend evil\n"}, file + `:3: haproxy.sections "userlist x\nbackend evil\n": item 2, "backend evil": a section backend cannot be added; services make frontends and backends, and haproxy.template is for all else`},
		{"a section that has a setting", input{yaml: "services: []\nhaproxy: {sections: [global]}\n"}, file + `:2: haproxy.sections: item 1, "global": its lines go to haproxy.global.extra`},
		{"a section with a name of ours", input{yaml: "services: []\nhaproxy: {sections: [peers pointsman]}\n"}, file + `:2: haproxy.sections: item 1, "peers pointsman": the name is reserved for Pointsman in haproxy.cfg`},
		{"certificates without TLS", input{yaml: service("bind: '*:80'\n  certificates: {directory: /c}")}, file + ":4: services[api].certificates.directory \"/c\": needs a bind address with the word ssl, such as `*:443 ssl`"},
		{"certificates and a certificate", input{yaml: service("bind: '*:443 ssl crt /x'\n  certificates: {directory: /c}")}, file + `:3: services[api].bind "*:443 ssl crt /x": "crt" is set by certificates.directory`},
		{"a client's address without peers", input{yaml: service("sticky: {source: true}")}, file + `:3: services[api].sticky.source "true": needs haproxy.peers.address: without it HAProxy forgets its clients at each reload, and each load balancer has servers of its own`},
		{"a client's address and a cookie", input{yaml: service("sticky: {source: true, cookie: x}") + "haproxy: {peers: {address: '10.0.0.1:1'}}\n"}, file + `:3: services[api].sticky.source "true": is not used with sticky.cookie: choose one`},
		{"a peer that is everywhere", input{yaml: "services: []\nhaproxy: {peers: {address: '0.0.0.0:10000'}}\n"}, file + `:2: haproxy.peers.address "0.0.0.0:10000": must be the address of one machine`},
		{"a peer at a service's address", input{yaml: service("bind: '10.0.0.1:80'") + "haproxy: {peers: {address: '10.0.0.1:80'}}\n"}, file + `:3: services[api].bind: 10.0.0.1:80 is already bound by haproxy.peers.address`},
		{"peers that cannot be found", input{yaml: "services: []\napi: {service: ''}\nhaproxy: {peers: {address: '10.0.0.1:1'}}\n"}, file + `:3: haproxy.peers.address "10.0.0.1:1": needs api.service: the load balancers find each other by it`},
		{"another name among the peers", input{yaml: "services: []\nhaproxy: {global: {extra: [localpeer x]}, peers: {address: '10.0.0.1:1'}}\n"}, file + `:2: haproxy.global.extra "localpeer x": localpeer is set by haproxy.peers.address: HAProxy would not know which of the peers it is`},
		{"peers in include mode", input{yaml: "services: []\nhaproxy: {base_config: /x.cfg, peers: {address: '10.0.0.1:1'}}\n"}, file + `:2: haproxy.peers.address "10.0.0.1:1": must not be set with haproxy.base_config: write the section peers there`},
		{"a cookie in mode tcp", input{yaml: service("mode: tcp\n  sticky: {cookie: SRV}")}, file + `:4: services[api].sticky.cookie: needs mode http`},
		{"a keyword by a setting and by server_options", input{yaml: service("slow_start: 10s\n  server_options: slowstart 5s")}, file + `:4: services[api].server_options "slowstart 5s": "slowstart" is set by slow_start`},
		{"certificates that server_options do not check", input{yaml: service("upstream: {tls: true, ca_file: /ca, sni: x}\n  server_options: verify none")}, file + `:4: services[api].server_options "verify none": "verify" is set by upstream.tls`},
		{"another name in checks", input{yaml: service("upstream: {tls: true, ca_file: /ca, sni: x}\n  server_options: ciphers ssl check-sni y")}, file + `:4: services[api].server_options "ciphers ssl check-sni y": "check-sni" is set by upstream.tls`},
		{"an agent check twice", input{yaml: service("agent_check: {from_meta: true}\n  server_options: agent-check agent-port 9")}, file + `:4: services[api].server_options "agent-check agent-port 9": "agent-check" is set by agent_check.from_meta`},
		{"requests that end when an instance leaves", input{yaml: service("agent_check: {from_meta: true}\n  server_options: on-marked-down shutdown-sessions")}, file + `:4: services[api].server_options "on-marked-down shutdown-sessions": "on-marked-down" would end the requests of an instance that leaves: agent_check.from_meta takes it down`},
		{"an agent elsewhere beside those of the instances", input{yaml: service("agent_check: {from_meta: true}\n  server_options: agent-addr 192.0.2.1")}, file + `:4: services[api].server_options "agent-addr 192.0.2.1": "agent-addr" is not used with agent_check.from_meta: each instance is asked at its own address, and reads nothing`},
		{"what no instance's agent reads", input{yaml: service("agent_check: {from_meta: true}\n  server_options: agent-send hello")}, file + `:4: services[api].server_options "agent-send hello": "agent-send" is not used with agent_check.from_meta: each instance is asked at its own address, and reads nothing`},
		{"an interval of no agent check", input{yaml: service("agent_check: {interval: 1s}")}, file + `:3: services[api].agent_check.interval: needs agent_check.from_meta`},
		{"another limit of errors", input{yaml: service("outlier: {observe: layer4}\n  server_options: error-limit 1")}, file + `:4: services[api].server_options "error-limit 1": "error-limit" is set by outlier.observe`},
		{"a line by a setting and by backend_extra", input{yaml: service("retries: 1\n  backend_extra: [retries 5]")}, file + `:4: services[api].backend_extra "retries 5": is set by retries`},
		{"a password in clear text, without the password", input{yaml: service("basic_auth: {users: 'alice:hush'}")}, file + `:3: services[api].basic_auth.users "***": item 1 must be NAME:HASH, with a name of letters, digits, '-', '_', '.' and '@', and a hash that begins with $5$ or $6$, as ` + "`openssl passwd -6` prints"},
		{"a type that is none", input{yaml: service("compression: [html]")}, file + `:3: services[api].compression: item 1, "html": must be a media type such as text/html, or its beginning such as text/`},
		{"a backend of the rate limit's name", input{yaml: service("backend: pointsman.rate.api")}, file + `:3: services[api].backend "pointsman.rate.api": is reserved for Pointsman in haproxy.cfg`},
		{"a cookie that is not dynamic", input{yaml: service(`backend_extra: [cookie SRV insert indirect nocache]`)}, file + ":3: services[api].backend_extra \"cookie SRV insert indirect nocache\": no server would be sticky: write `cookie NAME insert indirect nocache dynamic`, and a line `dynamic-cookie-key KEY`"},
		{"a dynamic cookie without a key", input{yaml: service(`backend_extra: [cookie SRV insert dynamic]`)}, file + ":3: services[api].backend_extra \"cookie SRV insert dynamic\": no server would be sticky: needs a line `dynamic-cookie-key KEY`, the same on every load balancer"},
		{"one backend twice", input{yaml: "services:\n- name: a\n- name: b\n  backend: a\n"}, file + `:4: services[b].backend "a": is already the backend of a`},
		{"a default backend that is taken", input{yaml: "services:\n- name: a\n  backend: b\n- name: b\n"}, file + `:4: services[b].backend "b": is already the backend of a`},
		{"a bind address of another family", input{yaml: service("bind: 'ipv6@127.0.0.1:80'")}, file + `:3: services[api].bind "ipv6@127.0.0.1:80": item 1, "ipv6@127.0.0.1:80": must be an address of ipv6`},
		{"a bind address of no family", input{yaml: service("bind: 'fd@3'")}, file + `:3: services[api].bind "fd@3": item 1, "fd@3": must be an address with nothing, ipv4@, ipv6@ or unix@ before it`},
		{"a socket without a path", input{yaml: service("bind: 'unix@x'")}, file + `:3: services[api].bind "unix@x": item 1, "unix@x": must be a path that begins with '/' after unix@`},
		{"ports that end before they begin", input{yaml: service("bind: '*:81-80'")}, file + `:3: services[api].bind "*:81-80": item 1, "*:81-80": the ports "81-80" end before they begin`},
		{"a range beyond the last port", input{yaml: service("bind: '*:80-70000'")}, file + `:3: services[api].bind "*:80-70000": item 1, "*:80-70000": port "70000" must be a number from 1 to 65535`},
		{"a network with bits beyond it", input{yaml: "services: []\naddresses: {allow: 10.0.0.1/8}\n"}, file + `:2: addresses.allow "10.0.0.1/8": item 1, "10.0.0.1/8": has bits beyond its length: write 10.0.0.0/8`},
		{"a network that is a name", input{yaml: service("addresses: {deny: [10.0.0.1, office]}")}, file + `:3: services[api].addresses.deny: item 2, "office": must be a network such as 10.0.0.0/8, or an address`},
		{"a comma too many", input{yaml: service("bind: '*:80,'")}, file + `:3: services[api].bind "*:80,": item 1, "*:80,": must be address:port, such as *:80 or 127.0.0.1:8080, or a path`},
		{"one port of two ranges", input{yaml: "services:\n- {name: a, bind: '*:80-90'}\n- {name: b, bind: '*:79,ipv4@*:90-99'}\n"}, file + `:3: services[b].bind: ipv4@*:90-99 is already bound by services[a].bind`},
		{"one address of all", input{yaml: "services:\n- {name: a, bind: '*:80'}\n- {name: b, bind: '10.0.0.1:79-81'}\n"}, file + `:3: services[b].bind: 10.0.0.1:79-81 overlaps *:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"all of one address", input{yaml: "services:\n- {name: a, bind: '10.0.0.1:80 ssl crt /x'}\n- {name: b, bind: ':80'}\n"}, file + `:3: services[b].bind: :80 overlaps 10.0.0.1:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"IPv4 of all addresses", input{yaml: "services:\n- {name: a, bind: ':::80'}\n- {name: b, bind: '10.0.0.1:80'}\n"}, file + `:3: services[b].bind: 10.0.0.1:80 overlaps :::80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"all addresses and an interface", input{yaml: "services:\n- {name: a, bind: '*:80 interface eth0'}\n- {name: b, bind: '10.0.0.1:80'}\n"}, file + `:3: services[b].bind: 10.0.0.1:80 overlaps *:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"a frontend over a service", input{yaml: "services:\n- {name: a, bind: '127.0.0.1:80'}\nfrontends:\n- {name: web, bind: '*:80'}\n"}, file + `:4: frontends[web].bind: *:80 overlaps 127.0.0.1:80 of services[a].bind: HAProxy would listen on both, and a connection reaches only one of them`},
		{"one path twice", input{yaml: "services:\n- {name: a, bind: /run/a.sock}\n- {name: b, bind: 'unix@/run/a.sock'}\n"}, file + `:3: services[b].bind: unix@/run/a.sock is already bound by services[a].bind`},
		{"one address twice, spelt differently", input{yaml: "services:\n- {name: a, bind: \"*:80\"}\n- name: b\n  bind: [\":81\", \"0.0.0.0:80 ssl crt /x\"]\n"}, file + `:4: services[b].bind: 0.0.0.0:80 is already bound by services[a].bind`},
		{"the statistics' address", input{yaml: "haproxy: {stats: {bind: \"127.0.0.1:80\"}}\nservices:\n- {name: a, bind: \"127.0.0.1:80\"}\n"}, file + `:3: services[a].bind: 127.0.0.1:80 is already bound by haproxy.stats.bind`},
		{"the sidecar's own address", input{yaml: "services:\n- {name: a, bind: \"127.0.0.1:9600\"}\n"}, file + `:2: services[a].bind: 127.0.0.1:9600 is already bound by api.address`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, c.in)
			if fmt.Sprint(err) != c.want {
				t.Errorf("Load:\n  got  %v\n  want %v", err, c.want)
			}
			if diff := cmp.Diff(got, config.Config{}); diff != "" {
				t.Errorf("the Config beside an error is not empty: %s", diff)
			}
		})
	}
}

func TestBindTakesWhatHAProxyDoes(t *testing.T) {
	for _, bind := range []string{
		"*:80", ":80", "0.0.0.0:80", "127.0.0.1:8080", "[::]:80", ":::80", "/run/x.sock", "*:443 ssl crt /etc/x.pem alpn h2,http/1.1",
		"ipv4@*:80", "ipv4@127.0.0.1:80", "ipv6@:80", "ipv6@[::1]:80", "*:8000-8010", "10.0.0.1:80,10.0.0.2:80", "ipv4@:80,unix@/run/x.sock,[::1]:8000-8001 ssl crt /x", "unix@/run/x.sock",
	} {
		got := mustLoad(t, input{yaml: "services:\n- name: api\n  bind: \"" + bind + "\"\n"}).Services[0].Bind
		if want := []string{bind}; !cmp.Equal(got, want) {
			t.Errorf("bind = %q, want %q", got, want)
		}
	}
}

func TestBind_OnePortInSeveralPlaces_TakenWhereNoConnectionIsMeantForTwo(t *testing.T) {
	for _, binds := range [][2]string{
		{`[":80", ":::80 v6only", "10.0.0.1:80"]`, `":81"`}, // of one service
		{`"*:80"`, `"[::]:80 v6only"`},
		{`"*:80"`, `"[fd00::1]:80"`},
		{`"*:80 interface eth0"`, `"*:80 interface eth1"`},
		{`"10.0.0.1:80"`, `"10.0.0.2:80"`},
	} {
		mustLoad(t, input{yaml: fmt.Sprintf("services:\n- {name: a, bind: %s}\n- {name: b, bind: %s}\n", binds[0], binds[1])})
	}
}

func TestConsulAddressTakesWhatConsulsClientsDo(t *testing.T) {
	for _, a := range []string{"consul:8500", "127.0.0.1:8500", "[::1]:8500", "http://consul:8500", "https://consul.example.com", "https://lb:443/consul", "unix:///run/consul.sock"} {
		if got := mustLoad(t, input{yaml: "services: []\n", env: []string{"CONSUL_HTTP_ADDR=" + a}}).Consul.Address; got != a {
			t.Errorf("consul.address = %q, want %q", got, a)
		}
	}
}

func TestASecretIsNeverShown(t *testing.T) {
	c := mustLoad(t, input{yaml: "services: []\n", env: []string{"POINTSMAN_CONSUL_TOKEN=hush", "POINTSMAN_CONSUL_HTTP_AUTH=u:hush"}})
	if got := c.Consul.Token.Reveal(); got != "hush" {
		t.Fatalf("Reveal() = %q, want the secret", got)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "token", c.Consul.Token)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "consul", c.Consul, "token", c.Consul.Token)
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	consulJSON, err := json.Marshal(c.Consul)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(c.Consul)
	if err != nil {
		t.Fatal(err)
	}
	prints := []string{log.String(), string(asJSON), string(consulJSON), string(asYAML), c.Consul.Token.String()}
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "10s", "t"} {
		prints = append(prints, fmt.Sprintf("%"+verb, c.Consul.Token), fmt.Sprintf("%"+verb, c), fmt.Sprintf("%"+verb, &c.Consul))
	}
	for _, p := range prints {
		if strings.Contains(p, "hush") || strings.Contains(p, "68757368") {
			t.Errorf("the secret is in %q", p)
		}
	}
	if got := string(asJSON); !strings.Contains(got, `"token":"***"`) {
		t.Errorf("JSON %s does not show that there is a token", got)
	}
}

func TestAnUnknownKeysValueIsNotShown(t *testing.T) {
	_, err := load(t, input{yaml: "services: []\nconsul: {tokn: hush}\n", env: []string{"POINTSMAN_CONSUL_TOKN=hush"}})
	if got := fmt.Sprint(err); strings.Contains(got, "hush") || strings.Count(got, "no such setting") != 2 {
		t.Errorf("Load: %s, want two unknown settings without their values", got)
	}
}

func TestTheDumpIsAFileThatLoadTakes(t *testing.T) {
	c := mustLoad(t, input{yaml: `
name: lb7
haproxy:
  reload_command: [systemctl, reload, haproxy]
  global: {extra: ["tune.bufsize 32768"]}
  stats: {bind: "127.0.0.1:8404"}
services:
- {name: api, backend: api-green, tags: [green], close_on_role_change: true, drain_sticky: move, drain_timeout: 1m}
- {name: api, bind: ["*:80"], tags: [blue], drain_timeout: 2m, filter: 'Service.Meta.x == "1"', warning_takes_traffic: false, guard: {max_loss_ratio: 0.25}, check: {host: api}, server_options: ssl verify none}
- {name: db, mode: tcp, bind: "*:5432", slots: {force: true}}
`})
	if a, b := c.Services[0], c.Services[1]; a.DrainTimeout != time.Minute || b.DrainTimeout != 2*time.Minute || b.Backend != "api" {
		t.Errorf("one service in two backends: got %+v and %+v", a, b)
	}
	dump, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, input{yaml: string(dump), host: "other"})
	if diff := cmp.Diff(again, c); diff != "" {
		t.Errorf("loaded from its dump (-got +want):\n%s\n%s", diff, dump)
	}
}

func TestChangedNamesTheKeysThatDiffer(t *testing.T) {
	before := mustLoad(t, input{yaml: "services: []\nconsul: {token: a}\n"})
	after := mustLoad(t, input{yaml: "services: [{name: api}]\nconsul: {token: b}\nhaproxy: {timeout: 5s}\n"})
	if got, want := config.Changed(before, after), []string{"consul.token", "haproxy.timeout", "services"}; !cmp.Equal(got, want) {
		t.Errorf("Changed = %q, want %q", got, want)
	}
	if got := config.Changed(after, after); len(got) != 0 {
		t.Errorf("Changed of one Config = %q, want none", got)
	}
}

func TestFlags_Help_ShowsTheCommonOnesWithoutMarkdown(t *testing.T) {
	flags := pflag.NewFlagSet("pointsman", pflag.ContinueOnError)
	config.RegisterFlags(flags)
	help := flags.FlagUsages()
	if n := strings.Count(help, "\n"); n == 0 || n > 15 {
		t.Errorf("--help shows %d flags, want 1 to 15:\n%s", n, help)
	}
	for _, flag := range []string{"--config", "--consul-address", "--haproxy-config", "--log-level"} {
		if !strings.Contains(help, flag+" ") {
			t.Errorf("--help does not show %s", flag)
		}
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if strings.Contains(f.Usage, "](") || strings.Contains(f.Usage, "`") {
			t.Errorf("--%s: markdown in %q", f.Name, f.Usage)
		}
	})
}
