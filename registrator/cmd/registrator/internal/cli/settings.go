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

	sidecars          string // "" or "off" asks none
	sidecarTokenFile  string
	sidecarCAFile     string
	sidecarCertFile   string
	sidecarKeyFile    string
	sidecarServerName string

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
	add(flags, &s.port, "", "port", "port", "where the program listens (required)", parseInt(1, math.MaxUint16))
	addList(flags, &s.check, "check", "check", "how to tell that it is well: http:/PATH, https:/PATH, a whole URL, tcp,\ngrpc, grpc:SERVICE, grpcs (with TLS), ttl or ttl:TIME; may be repeated\n(default tcp)", parseCheck)
	text(&s.id, "id", "id", "the service's ID in Consul, unique on the node (default\nservice-hostname-port)")
	add(flags, &s.address, "", "address", "ip", "where others reach the program (default: where the agent is, or the\naddress from which the way leads to it); checks ask there, or at both\n127.0.0.1 and ::1 if the agent is on this machine", parseAddress)
	addList(flags, &s.tags, "tag", "tag", "a tag; may be repeated", parseText)
	addList(flags, &s.meta, "meta", "key=value", "an entry of the service's meta; may be repeated", parsePair)

	add(flags, &s.version, "", "version", "version", "the program's version", parseVersion)
	add(flags, &s.weight, "1", "weight", "weight", "its share of the traffic, relative to others", parseInt(1, maxWeight))
	flags.BoolVar(&s.backup, "backup", false, "take traffic only when no other can")
	add(flags, &s.maxConn, "0", "maxconn", "count", "connections at a time from each load balancer; 0 is no limit", parseInt(0, contract.MaxMaxConn))

	add(flags, &s.checkHost, "", "check-host", "host", "Host header of HTTP checks, and the name that certificates must have\n(default: the address)", parseHost)
	flags.BoolVar(&s.checkSkipVerify, "check-skip-verify", false, "let checks with TLS take any certificate; which authorities they trust\nis else set in the Consul agent")
	duration(&s.checkInterval, "check-interval", registrator.DefaultInterval.String(), time.Second, "time between two checks by Consul")
	duration(&s.checkTimeout, "check-timeout", registrator.DefaultTimeout.String(), time.Millisecond, "time for a check to pass")
	duration(&s.readyTimeout, "ready-timeout", "0s", 0, "time for the program to become ready; 0 is for ever")
	flags.BoolVar(&s.anyListener, "any-listener", false, "register also while another process listens on --port, such as a proxy in\nfront of the program or a daemon that it has started (Linux)")

	add(flags, &s.signal, "TERM", "signal", "signal", "what tells the program to stop", parseSignal)
	duration(&s.leaveWait, "leave-wait", registrator.DefaultLeaveWait.String(), time.Millisecond, "time for a load balancer that can't be asked to let go of the program,\nbefore that hears of its end")
	duration(&s.leaveTimeout, "leave-timeout", "", time.Millisecond, "the longest from the signal until the program hears of its end (default "+registrator.DefaultLeaveTimeout.String()+",\nor twice --leave-wait if that is longer)")
	duration(&s.stopTimeout, "stop-timeout", "30s", time.Millisecond, "time for the program to stop, before it is killed")
	flags.BoolVar(&s.init, "init", false, "reap the processes that the program leaves behind; as PID 1 always so")
	flags.BoolVar(&s.foreground, "foreground", false, "let the program read the terminal; it then gets Ctrl-C at once")
	flags.BoolVar(&s.passToken, "pass-consul-token", false, "pass CONSUL_HTTP_TOKEN and CONSUL_HTTP_AUTH on to the program")

	add(flags, &s.sidecars, registrator.DefaultSidecars, "sidecars", "service", "under which the sidecars of the load balancers are found in Consul, which\nare asked whether anybody is on the program still; off asks none", parseText)
	text(&s.sidecarTokenFile, "sidecar-token-file", "file", "with the token that they ask for; sent only over TLS, with a CA file or a\nserver name")
	text(&s.sidecarCAFile, "sidecar-ca-file", "file", "with the authorities of their certificates (default: the system's); one\nwhose API has no TLS is not asked then")
	text(&s.sidecarCertFile, "sidecar-cert-file", "file", "with the certificate to show to them")
	text(&s.sidecarKeyFile, "sidecar-key-file", "file", "with its key")
	text(&s.sidecarServerName, "sidecar-server-name", "name", "that their certificates must have, if not that of the host")

	add(flags, &s.logJSON, "text", "log-format", "format", "of the wrapper's log: text or json", parseFormat)
	add(flags, &s.logLevel, "info", "log-level", "level", "least level that is logged: trace, debug, info, warn, error or off", parseLevel)
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
		errs = append(errs, fmt.Errorf("%s: it is required", both("service")))
	}
	if s.port == 0 {
		errs = append(errs, fmt.Errorf("%s: it is required", both("port")))
	}
	if len(argv) == 0 {
		errs = append(errs, errors.New("there is no program to run; want registrator run [flags] -- program [arguments]"))
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
		Version: s.version, Backup: s.backup, MaxConn: s.maxConn,
		Weights: api.AgentWeights{Passing: s.weight, Warning: 1},
		Checks:  checks, LeaveWait: s.leaveWait, LeaveTimeout: s.leaveTimeout, Logger: log,
		Sidecars: registrator.Sidecars{
			Off: s.sidecars == "" || s.sidecars == "off", Service: s.sidecars,
			TokenFile: s.sidecarTokenFile, CAFile: s.sidecarCAFile, CertFile: s.sidecarCertFile, KeyFile: s.sidecarKeyFile,
			ServerName: s.sidecarServerName,
		},
	}
	return c, nil
}
