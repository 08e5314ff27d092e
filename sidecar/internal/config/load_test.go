package config_test

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

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
			Stats: config.Endpoint{URI: "/"}, Exporter: config.Endpoint{URI: "/metrics"},
			Health: config.Endpoint{URI: "/"}, Sections: []string{},
		},
		Registration: config.Registration{
			Tags:  []string{},
			Check: config.BalancerCheck{Interval: time.Second, Timeout: time.Second}, DeregisterAfter: time.Minute,
		},
		Discovery: config.Discovery{ProfileMeta: "pointsman-profile", Grace: 30 * time.Second, MaxServices: 100, MaxRoutes: 100},
		Services: []config.Service{{
			Name: "api", Backend: "api", Bind: []string{}, Mode: config.HTTP, Balance: "roundrobin",
			Tags: []string{}, MaxInstances: 10000, Datacenters: []string{}, WarningTakesTraffic: true, Addresses: config.Addresses{Allow: []string{}, Deny: []string{}},
			Check: config.Check{
				Enabled: true, Type: config.CheckHTTP, Path: "/healthz", Inter: time.Second, FastInter: 250 * time.Millisecond,
				DownInter: 250 * time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3,
			},
			Slots:        config.Slots{Min: 10, Spare: 4},
			DrainTimeout: 30 * time.Second, DrainSticky: config.StickyKeep, SessionKillAfter: 5 * time.Second, ReplacementTimeout: 30 * time.Second,
			MinServers: 1, Guard: config.Guard{MaxLossRatio: 0.5, Window: 30 * time.Second, HoldDeregistered: 10 * time.Minute},
			Damping: config.Damping{Flaps: 3, Min: 10 * time.Second, Max: 5 * time.Minute, Forget: 10 * time.Minute},
			RetryOn: []string{"conn-failure", "empty-response"}, Pause: config.Pause{MaxRequests: 1000},
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
		"file":        {yaml: "services: []\nhaproxy: {reload_command: [systemctl, reload, haproxy]}\n"},
		"environment": {yaml: "services: []\n", env: []string{`POINTSMAN_HAPROXY_RELOAD_COMMAND=["systemctl", "reload", "haproxy"]`}},
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

func TestOfTwoVariablesWithOneNameTheFirstCounts(t *testing.T) {
	got := mustLoad(t, input{yaml: "services: []\n", env: []string{"POINTSMAN_NAME=a", "POINTSMAN_NAME=b"}}).Name
	if got != "a" {
		t.Errorf("name = %q, want a, as os.Getenv would give", got)
	}
}
