package cli

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

// settings is what the flags of `registrator run` say.
type settings struct {
	service string
	port    int
	id      string
	address string
	tags    []string
	meta    []pair

	version string
	weight  int
	backup  bool
	maxConn int

	agentPort int

	check           []check
	checkHost       string
	checkSkipVerify bool
	checkInterval   time.Duration
	checkTimeout    time.Duration
	readyTimeout    time.Duration
	anyListener     bool

	signal       syscall.Signal
	leaveWait    time.Duration
	leaveTimeout time.Duration // 0 is the library's default
	stopTimeout  time.Duration
	init         bool
	foreground   bool
	passToken    bool

	sidecars           string // "" or "off" asks none
	sidecarDatacenters []string
	sidecarTokenFile   string
	sidecarSigningKey  string // its file
	sidecarCAFile      string
	sidecarCertFile    string
	sidecarKeyFile     string
	sidecarServerName  string

	logJSON  bool
	logLevel hclog.Level

	passedOver []string // variables of the container platform, by name
}

// maxWeight is the largest that HAProxy takes (configuration manual, 5.2,
// "weight"); Consul takes more.
const maxWeight = 256

// flags adds the settings to the set, with their defaults.
func (s *settings) flags(flags *pflag.FlagSet) {
	flags.SortFlags = false // in the order in which they are explained
	text := func(to *string, flag, kind, help string) { add(flags, to, "", flag, kind, help, parseText) }
	duration := func(to *time.Duration, flag, otherwise string, low time.Duration, help string) {
		add(flags, to, otherwise, flag, "time", help, parseDuration(low))
	}

	text(&s.service, "service", "name", "the service's name in Consul (required)")
	add(flags, &s.port, "", "port", "port", "the program's port (required)", parseInt(1, math.MaxUint16))
	addList(flags, &s.check, "check", "check", "health check: http:/PATH, https:/PATH, a whole URL, tcp, grpc,\ngrpc:SERVICE, grpcs (with TLS), ttl or ttl:TIME; may be repeated\n(default tcp)", parseCheck)
	text(&s.id, "id", "id", "the service's ID in Consul, unique on the node (default\nservice-hostname-port)")
	add(flags, &s.address, "", "address", "ip", "the program's IP address for others (default: the agent's, or this\nmachine's address on the route to it); checks use it, or both 127.0.0.1\nand ::1 if the agent is on this machine", parseAddress)
	addList(flags, &s.tags, "tag", "tag", "a tag; may be repeated", parseText)
	addList(flags, &s.meta, "meta", "key=value", "an entry of the service's meta; may be repeated", parsePair)

	add(flags, &s.version, "", "version", "version", "the program's version", parseVersion)
	add(flags, &s.weight, "1", "weight", "weight", "weight: share of the traffic, relative to other instances", parseInt(1, maxWeight))
	flags.BoolVar(&s.backup, "backup", false, "take traffic only when no other instance can")
	add(flags, &s.maxConn, "0", "maxconn", "count", "maximum connections from each load balancer; 0 is no limit", parseInt(0, contract.MaxMaxConn))

	add(flags, &s.agentPort, "0", "agent-port", "port", "port that answers HAProxy's agent check: stopped while the program leaves,\nalso without sidecar and Consul; for services with agent_check.from_meta; 0 is none", parseInt(0, math.MaxUint16))

	add(flags, &s.checkHost, "", "check-host", "host", "Host header of HTTP checks, and the name that certificates must have\n(default: the address)", parseHost)
	flags.BoolVar(&s.checkSkipVerify, "check-skip-verify", false, "skip certificate verification in TLS checks; trusted authorities are\nset in the Consul agent")
	duration(&s.checkInterval, "check-interval", registrator.DefaultInterval.String(), time.Second, "time between two checks by Consul")
	duration(&s.checkTimeout, "check-timeout", registrator.DefaultTimeout.String(), time.Millisecond, "timeout of a check")
	duration(&s.readyTimeout, "ready-timeout", "0s", 0, "longest wait for the program to become ready; 0 is no limit")
	flags.BoolVar(&s.anyListener, "any-listener", false, "register even if another process listens on --port, such as a proxy in\nfront of the program or a daemon that it has started (Linux)")

	add(flags, &s.signal, "TERM", "signal", "signal", "signal that stops the program", parseSignal)
	duration(&s.leaveWait, "leave-wait", registrator.DefaultLeaveWait.String(), time.Millisecond, "wait for a load balancer that can't be reached, before the program gets\nthe stop signal")
	duration(&s.leaveTimeout, "leave-timeout", "", time.Millisecond, "longest time from SIGTERM until the program gets the stop signal (default "+registrator.DefaultLeaveTimeout.String()+",\nor twice --leave-wait if that is longer)")
	duration(&s.stopTimeout, "stop-timeout", "30s", time.Millisecond, "longest wait for the program to stop before it is killed")
	flags.BoolVar(&s.init, "init", false, "reap the processes that the program leaves behind; always on as PID 1")
	flags.BoolVar(&s.foreground, "foreground", false, "let the program read the terminal; Ctrl-C then reaches it directly")
	flags.BoolVar(&s.passToken, "pass-consul-token", false, "pass CONSUL_HTTP_TOKEN and CONSUL_HTTP_AUTH on to the program")

	add(flags, &s.sidecars, registrator.DefaultSidecars, "sidecars", "service", "service name of the load balancers' sidecars in Consul, which report when\nthe program is drained; off asks none", parseText)
	addList(flags, &s.sidecarDatacenters, "sidecar-datacenter", "name", "another Consul datacenter whose load balancers route to the program; their\nsidecars are asked, too; may be repeated", parseText)
	text(&s.sidecarTokenFile, "sidecar-token-file", "file", "file with the bearer token for the sidecars' API; sent only over TLS,\nwith a CA file or a server name")
	text(&s.sidecarSigningKey, "sidecar-signing-key-file", "file", "file with the key that the sidecars sign their answers with; if set, only\nanswers signed with it are accepted; with several keys, one a line, answers\nsigned with any of them")
	text(&s.sidecarCAFile, "sidecar-ca-file", "file", "file with the authorities of the sidecars' certificates (default: the\nsystem's); if set, sidecars without TLS are not asked")
	text(&s.sidecarCertFile, "sidecar-cert-file", "file", "file with the client certificate for the sidecars' API")
	text(&s.sidecarKeyFile, "sidecar-key-file", "file", "file with the client certificate's key")
	text(&s.sidecarServerName, "sidecar-server-name", "name", "server name in the sidecars' certificates, if not the host's")

	add(flags, &s.logJSON, "text", "log-format", "format", "log format: text or json", parseFormat)
	add(flags, &s.logLevel, "info", "log-level", "level", "minimum level of log messages: trace, debug, info, warn, error or off", parseLevel)
	flags.VisitAll(func(f *pflag.Flag) { f.Usage += " [" + variable(f.Name) + "]" })
}

// add adds a flag with a checked value. It panics if the default is none.
func add[T any](flags *pflag.FlagSet, to *T, otherwise, flag, kind, help string, parse func(string) (T, error)) {
	v := &value[T]{to: to, kind: kind, parse: parse}
	if otherwise != "" {
		if err := v.Set(otherwise); err != nil {
			panic(fmt.Sprintf("default %q of --%s: %v", otherwise, flag, err))
		}
	}
	flags.Var(v, flag, help)
}

func addList[T any](flags *pflag.FlagSet, to *[]T, flag, kind, help string, parse func(string) (T, error)) {
	flags.Var(&list[T]{to: to, kind: kind, parse: parse}, flag, help)
}

// missing names what must be given and is not.
func (s *settings) missing(argv []string) error {
	var errs []error
	if s.service == "" {
		errs = append(errs, fmt.Errorf("%s: required", both("service")))
	}
	if s.port == 0 {
		errs = append(errs, fmt.Errorf("%s: required", both("port")))
	}
	if len(argv) == 0 {
		errs = append(errs, errors.New("no program to run; want registrator run [flags] -- program [arguments]"))
	}
	return errors.Join(errs...)
}

// registration is what to register, at the place; the checks are the place's.
func (s *settings) registration(at place, checks []registrator.Check, consul *api.Config, log hclog.Logger) (registrator.Config, error) {
	meta := make(map[string]string, len(s.meta))
	for _, p := range s.meta {
		if was, twice := meta[p.key]; twice {
			return registrator.Config{}, fmt.Errorf("%s: %q is given twice, as %q and %q", both("meta"), p.key, was, p.value)
		}
		meta[p.key] = p.value
	}
	c := registrator.Config{
		Consul: consul, Service: s.service, ID: s.id, Address: at.address, Port: s.port, Tags: s.tags, Meta: meta,
		Version: s.version, Backup: s.backup, MaxConn: s.maxConn, AgentPort: s.agentPort,
		Weights: api.AgentWeights{Passing: s.weight, Warning: 1},
		Checks:  checks, LeaveWait: s.leaveWait, LeaveTimeout: s.leaveTimeout, Logger: log,
		Sidecars: registrator.Sidecars{
			Off: s.sidecars == "" || s.sidecars == "off", Service: s.sidecars, Datacenters: s.sidecarDatacenters,
			TokenFile: s.sidecarTokenFile, SigningKeyFile: s.sidecarSigningKey, CAFile: s.sidecarCAFile, CertFile: s.sidecarCertFile, KeyFile: s.sidecarKeyFile,
			ServerName: s.sidecarServerName,
		},
	}
	return c, nil
}
