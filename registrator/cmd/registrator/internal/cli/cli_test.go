package cli

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/internal/envflag"
	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/ready"
)

// read reads flags and environment as `registrator run` does.
func read(t *testing.T, args, environ []string) (settings, error) {
	t.Helper()
	var s settings
	flags := pflag.NewFlagSet("t", pflag.ContinueOnError)
	s.flags(flags)
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	return s, envflag.Set(flags, prefix, environ)
}

func TestEverySettingIsReadFromFlagAndFromEnvironment(t *testing.T) {
	want := settings{
		service: "api", port: 4000, id: "api-1", address: "2001:db8::1", tags: []string{"a", "b"}, meta: []pair{{"k", "v"}, {"l", ""}},
		version: "1.1", weight: 5, backup: true, maxConn: 9,
		check: []check{{path: "/healthz"}, {tcp: true}}, checkHost: "web.test", checkSkipVerify: true, checkInterval: 2 * time.Second, checkTimeout: 3 * time.Second, readyTimeout: time.Minute, anyListener: true,
		signal: syscall.SIGQUIT, leaveWait: 4 * time.Second, leaveTimeout: 6 * time.Second, stopTimeout: 5 * time.Second,
		sidecars: "sc", sidecarDatacenters: []string{"dc1", "dc2"}, sidecarTokenFile: "t", sidecarCAFile: "ca", sidecarCertFile: "c", sidecarKeyFile: "k", sidecarServerName: "n", init: true, foreground: true,
		logJSON: true, logLevel: hclog.Debug,
	}
	for name, in := range map[string]struct{ args, environ []string }{
		"flags": {args: []string{
			"--service=api", "--port=4000", "--id=api-1", "--address=2001:db8::1", "--tag=a", "--tag=b", "--meta=k=v", "--meta=l=",
			"--version=1.1", "--weight=5", "--backup", "--maxconn=9",
			"--check=http:/healthz", "--check=tcp", "--check-host=web.test", "--check-skip-verify", "--check-interval=2s", "--check-timeout=3s", "--ready-timeout=1m", "--any-listener",
			"--signal=QUIT", "--leave-wait=4s", "--leave-timeout=6s", "--stop-timeout=5s",
			"--sidecars=sc", "--sidecar-datacenter=dc1", "--sidecar-datacenter=dc2", "--sidecar-token-file=t", "--sidecar-ca-file=ca", "--sidecar-cert-file=c", "--sidecar-key-file=k", "--sidecar-server-name=n", "--init", "--foreground", "--log-format=json", "--log-level=debug",
		}},
		"environment": {environ: []string{
			"REGISTRATOR_SERVICE=api", "REGISTRATOR_PORT=4000", "REGISTRATOR_ID=api-1", "REGISTRATOR_ADDRESS=2001:db8::1",
			"REGISTRATOR_TAG=a,b", "REGISTRATOR_META=k=v,l=", "REGISTRATOR_VERSION=1.1", "REGISTRATOR_WEIGHT=5", "REGISTRATOR_BACKUP=true",
			"REGISTRATOR_MAXCONN=9", "REGISTRATOR_CHECK=http:/healthz,tcp", "REGISTRATOR_CHECK_HOST=web.test", "REGISTRATOR_CHECK_SKIP_VERIFY=true", "REGISTRATOR_CHECK_INTERVAL=2s", "REGISTRATOR_CHECK_TIMEOUT=3s",
			"REGISTRATOR_READY_TIMEOUT=1m", "REGISTRATOR_ANY_LISTENER=true", "REGISTRATOR_SIGNAL=SIGQUIT", "REGISTRATOR_LEAVE_WAIT=4s", "REGISTRATOR_LEAVE_TIMEOUT=6s", "REGISTRATOR_SIDECARS=sc", "REGISTRATOR_SIDECAR_DATACENTER=dc1,dc2", "REGISTRATOR_SIDECAR_TOKEN_FILE=t", "REGISTRATOR_SIDECAR_CA_FILE=ca",
			"REGISTRATOR_SIDECAR_CERT_FILE=c", "REGISTRATOR_SIDECAR_KEY_FILE=k", "REGISTRATOR_SIDECAR_SERVER_NAME=n", "REGISTRATOR_STOP_TIMEOUT=5s",
			"REGISTRATOR_INIT=1", "REGISTRATOR_FOREGROUND=true", "REGISTRATOR_LOG_FORMAT=json", "REGISTRATOR_LOG_LEVEL=debug",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(t, in.args, in.environ)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, want, cmp.AllowUnexported(settings{}, check{}, pair{})); diff != "" {
				t.Errorf("settings (-got +want):\n%s", diff)
			}
		})
	}
}

func TestFlagWinsOverEnvironmentAndEmptyCountsAsNotThere(t *testing.T) {
	got, err := read(t, []string{"--tag=a,b", "--port=1"}, []string{"REGISTRATOR_TAG=c", "REGISTRATOR_PORT=2", "REGISTRATOR_WEIGHT=", "REGISTRATOR_SERVICE_HOST=10.0.0.1"})
	if err != nil || len(got.tags) != 1 || got.tags[0] != "a,b" || got.port != 1 || got.weight != 1 {
		t.Errorf("got tags %q, port %d, weight %d, %v, want the flags' and the default", got.tags, got.port, got.weight, err)
	}
}

func TestDefaultsAreThoseOfTheHelp(t *testing.T) {
	got, err := read(t, nil, nil)
	want := settings{
		weight: 1, checkInterval: registrator.DefaultInterval, checkTimeout: registrator.DefaultTimeout,
		signal: syscall.SIGTERM, leaveWait: registrator.DefaultLeaveWait, stopTimeout: 30 * time.Second, sidecars: "pointsman-sidecar", logLevel: hclog.Info,
	}
	if diff := cmp.Diff(got, want, cmp.AllowUnexported(settings{})); err != nil || diff != "" {
		t.Errorf("%v; settings (-got +want):\n%s", err, diff)
	}
}

func TestMalformedSettingIsNamedWithItsValue(t *testing.T) {
	for flag, values := range map[string][]string{
		"port":              {"0", "65536", "http", "tcp://10.0.0.1:80"},
		"address":           {"web.local", "0.0.0.0", "fe80::1%eth0", "224.0.0.1", "1.2.3.4:80"},
		"meta":              {"x", "=x", "version=1", "pointsman-drain=x"},
		"version":           {strings.Repeat("v", 65), "é"},
		"weight":            {"0", "257", "x"},
		"maxconn":           {"-1", "1000001"},
		"check":             {"http", "http:healthz", "http:/a b", "https:x", "http://", "http://u:p@h/", "tcp:80", "grpc:", "grpc:a/b", "grpcs:a b", "ttl:x", "ttl:10ms", "ping"},
		"check-host":        {"a/b", "a b", "u@h"},
		"check-skip-verify": {"ja"},
		"check-interval":    {"1", "999ms"},
		"check-timeout":     {"0"},
		"ready-timeout":     {"-1s"},
		"signal":            {"NONE", "0", "65"},
		"leave-wait":        {"0s"},
		"leave-timeout":     {"0s", "soon"},
		"stop-timeout":      {"0s", "-1s"},
		"init":              {"ja"},
		"log-format":        {"xml"},
		"log-level":         {"loud"},
	} {
		for _, text := range values {
			if _, err := read(t, []string{"--" + flag + "=" + text}, nil); err == nil || !strings.Contains(err.Error(), `"`+text+`" for "--`+flag+`" flag: `) {
				t.Errorf("--%s=%s: got %v, want an error with both", flag, text, err)
			}
			if _, err := read(t, nil, []string{variable(flag) + "=" + text}); err == nil || !strings.HasPrefix(err.Error(), "environment variable "+variable(flag)+`="`+text+`": `) {
				t.Errorf("%s=%s: got %v, want an error with both", variable(flag), text, err)
			}
		}
	}
}

func TestUsageErrorsExitWith2AndAreAllNamed(t *testing.T) {
	for name, c := range map[string]struct {
		args, environ []string
		want          []string
	}{
		"nothing given":            {[]string{"run"}, nil, []string{"--service (REGISTRATOR_SERVICE): required", "--port (REGISTRATOR_PORT): required", "no program"}},
		"no program":               {[]string{"run", "--service=a", "--port=1", "--"}, nil, []string{"no program"}},
		"unknown flag":             {[]string{"run", "--nope"}, nil, []string{"unknown flag: --nope"}},
		"unknown command":          {[]string{"walk"}, nil, []string{`unknown command "walk"`}},
		"two bad variables":        {[]string{"run", "x"}, []string{"REGISTRATOR_PORT=a", "REGISTRATOR_WEIGHT=b"}, []string{`REGISTRATOR_PORT="a"`, `REGISTRATOR_WEIGHT="b"`}},
		"Consul's own switch":      {[]string{"run", "x"}, []string{"CONSUL_HTTP_SSL=ja"}, []string{`CONSUL_HTTP_SSL="ja"`}},
		"meta twice":               {[]string{"run", "--service=a", "--port=1", "--meta=k=1", "--meta=k=2", "x"}, nil, []string{`"k" is given twice`}},
		"a wait beyond its end":    {[]string{"run", "--service=a", "--port=1", "--leave-wait=2s", "--leave-timeout=1s", "x"}, nil, []string{"leave timeout 1s"}},
		"a file that is not there": {[]string{"run", "--service=a", "--port=1", "--sidecar-token-file=/no/such", "--sidecar-ca-file=/no/ca", "x"}, nil, []string{"/no/such", "/no/ca"}},
		"the library's refusal":    {[]string{"run", "--service=a", "--port=1", "--meta=a b=1", "x"}, nil, []string{`registrator: meta "a b"`}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got := Run(t.Context(), Process{Args: c.args, Environ: c.environ, Stdout: &stdout, Stderr: &stderr})
			if got != ExitUsage || stdout.Len() != 0 {
				t.Errorf("exit code %d, stdout %q, want 2 and nothing", got, &stdout)
			}
			for _, want := range append(c.want, "Try 'registrator run --help'.\n") {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr: got %q, want %q in it", &stderr, want)
				}
			}
			if strings.Contains(stderr.String(), "registrator: registrator:") {
				t.Errorf("stderr: got %q, want the name once", &stderr)
			}
		})
	}
}

func TestChecksOfConsulAreThoseThatAreProbed(t *testing.T) {
	const second = time.Second
	for name, c := range map[string]struct {
		flags  []string
		consul []registrator.Check
		probes []ready.Check
	}{
		"by default the program must listen": {
			nil, []registrator.Check{{Name: "tcp", TCP: "[::1]:4000"}}, []ready.Check{{TCP: "[::1]:4000"}},
		},
		"a path is on the program's port": {
			[]string{"http:/a?b=c"}, []registrator.Check{{Name: "http", HTTP: "http://[::1]:4000/a?b=c", Host: "web.test:80"}}, []ready.Check{{HTTP: "http://[::1]:4000/a?b=c", Host: "web.test:80"}},
		},
		"a URL is as it is": {
			[]string{"http://h:1/x"}, []registrator.Check{{Name: "http", HTTP: "http://h:1/x", Host: "web.test:80"}}, []ready.Check{{HTTP: "http://h:1/x", Host: "web.test:80"}},
		},
		"with TLS it has passed for the agent once": {
			[]string{"https:/x", "grpcs:a.b"},
			[]registrator.Check{
				{Name: "http", HTTP: "https://[::1]:4000/x", Host: "web.test:80", TLSServerName: "web.test", StartCritical: true},
				{Name: "grpc", GRPC: "[::1]:4000/a.b", GRPCTLS: true, TLSServerName: "web.test", StartCritical: true},
			},
			[]ready.Check{
				{HTTP: "https://[::1]:4000/x", Host: "web.test:80", ServerName: "web.test"},
				{GRPC: "[::1]:4000", Service: "a.b", TLS: true, ServerName: "web.test"},
			},
		},
		"gRPC": {
			[]string{"grpc"}, []registrator.Check{{Name: "grpc", GRPC: "[::1]:4000"}}, []ready.Check{{GRPC: "[::1]:4000"}},
		},
		"TTL check updates begin when the program listens": {
			[]string{"ttl", "ttl:1m"},
			[]registrator.Check{{Name: "ttl", TTL: 10 * second}, {Name: "ttl-2", TTL: time.Minute}},
			[]ready.Check{{TCP: "[::1]:4000"}, {TCP: "[::1]:4000"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--port=4000", "--check-host=web.test:80"}
			for _, f := range c.flags {
				args = append(args, "--check="+f)
			}
			s, err := read(t, args, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.consul {
				c.consul[i].Interval, c.consul[i].Timeout = second, second
			}
			consul, probes := s.checks("::1")
			if diff := cmp.Diff(consul, c.consul); diff != "" {
				t.Errorf("Consul's (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(probes, c.probes); diff != "" {
				t.Errorf("probes (-got +want):\n%s", diff)
			}
		})
	}
}

func TestPlaceAtWhichOthersReachTheProgram(t *testing.T) {
	toConsul := func(_ context.Context, hostPort string) (netip.Addr, error) {
		if hostPort != "consul:8500" {
			return netip.Addr{}, errors.New("asked for the way to " + hostPort)
		}
		return netip.MustParseAddr("10.0.0.7"), nil
	}
	loopbacks := []string{"127.0.0.1", "::1"}
	for name, c := range map[string]struct {
		setting, consul string
		want            place
	}{
		"the setting wins": {"192.0.2.1", "consul:8500", place{"192.0.2.1", []string{"192.0.2.1"}}},
		"then the agent's, where it is on this machine": {"", "127.0.0.1:8500", place{"", loopbacks}},
		"by IPv6":                           {"", "[::1]:8500", place{"", loopbacks}},
		"by name":                           {"", "http://localhost:8500", place{"", loopbacks}},
		"by socket":                         {"", "unix:///run/consul.sock", place{"", loopbacks}},
		"else the one that leads to Consul": {"", "https://consul:8500/x", place{"10.0.0.7", []string{"10.0.0.7"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := findPlace(t.Context(), c.setting, c.consul, toConsul); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	lost := func(context.Context, string) (netip.Addr, error) { return netip.Addr{}, errors.New("no route") }
	if _, err := findPlace(t.Context(), "", "consul", lost); err == nil || !strings.Contains(err.Error(), "--address (REGISTRATOR_ADDRESS)") {
		t.Errorf("no way to Consul: got %v, want an error that names the setting", err)
	}
}
