package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/pointsman/pointsman/internal/envflag"
	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/services/internal/command"
)

// settings is what the flags say.
type settings struct {
	listen   string
	instance string
	version  string
	fail     string

	noRegister bool
	consul     string
	service    string
	id         string // of the instance in Consul; after check, never ""
	address    string // "" is found out

	leaveWait    time.Duration
	leaveTimeout time.Duration
	linger       time.Duration
	stopTimeout  time.Duration

	sidecars string // "" or "off" asks none
	sidecar  registrator.Sidecars

	log command.Log
}

func (s *settings) flags(f *pflag.FlagSet) {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "api"
	}
	f.StringVar(&s.listen, "listen", ":4000", "`address` for HTTP, as host:port; port 0 takes a free one")
	f.StringVar(&s.instance, "instance", host, "`name` of this node in every answer")
	f.StringVar(&s.version, "version-name", "1.0", "`version` of this node in every answer and in Consul")
	envflag.SetVariable(f, "version-name", "VERSION")

	f.StringVar(&s.fail, "fail", "ok", "failure `mode` from the start: 5xx, hang or critical (see /fail)")

	f.BoolVar(&s.noRegister, "no-register", false, "serve without registering in Consul")
	f.StringVar(&s.consul, "consul", "", "`address` of the Consul agent; default CONSUL_HTTP_ADDR, else 127.0.0.1:8500")
	f.StringVar(&s.service, "service", "api", "`name` of the service in Consul")
	f.StringVar(&s.id, "id", "", "`ID` of the instance in Consul, and with it the server's name in HAProxy; default the instance's name")
	f.StringVar(&s.address, "address", "", "`IP` address or IP:port of this node for the load balancers; default the listen address; if that is a wildcard, the agent's address if Consul is on this machine, else this machine's address on the route to Consul")

	f.DurationVar(&s.leaveWait, "leave-wait", registrator.DefaultLeaveWait, "wait for a load balancer that can't be reached, after a signal, while the node still serves")
	f.DurationVar(&s.leaveTimeout, "leave-timeout", 0, fmt.Sprintf("longest wait for all load balancers to drain the node; default %s, or twice leave-wait if that is longer", registrator.DefaultLeaveTimeout))
	f.DurationVar(&s.linger, "linger", time.Second, "longest time to answer requests on open connections after the drain")
	f.DurationVar(&s.stopTimeout, "stop-timeout", 0, "longest time of the whole stop, plus up to 5s to deregister; requests still in flight are cut; default leave-timeout plus linger plus 14s")

	f.StringVar(&s.sidecars, "sidecars", registrator.DefaultSidecars, "`service` name of the load balancers' sidecars in Consul, which report when the node is drained; off asks none")
	f.StringSliceVar(&s.sidecar.Datacenters, "sidecar-datacenter", nil, "another Consul `datacenter` whose load balancers route to the node; their sidecars are asked, too; may be repeated")
	f.StringVar(&s.sidecar.TokenFile, "sidecar-token-file", "", "`file` with the bearer token for the sidecars' API; sent only over TLS, with a CA file or a server name")
	f.StringVar(&s.sidecar.CAFile, "sidecar-ca-file", "", "`file` with the authorities of the sidecars' certificates; default the system's. If set, sidecars without TLS are not asked")
	f.StringVar(&s.sidecar.CertFile, "sidecar-cert-file", "", "`file` with the client certificate for the sidecars' API")
	f.StringVar(&s.sidecar.KeyFile, "sidecar-key-file", "", "`file` with the client certificate's key")
	f.StringVar(&s.sidecar.ServerName, "sidecar-server-name", "", "server `name` in the sidecars' certificates, if not the host's")
	s.log.Flags(f)
}

// finishTime is what is left of the default stop timeout for what is in flight.
const finishTime = 14 * time.Second

// check returns one error for each setting that is wrong, with its flag,
// environment variable and value. The registrator checks its own.
func (s *settings) check(flags *pflag.FlagSet) error {
	var errs []error
	bad := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", envflag.Name(prefix, flags, flag), fmt.Errorf(format, args...)))
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		bad("listen", "%q: must be host:port or :port", s.listen)
	}
	if s.address != "" {
		if _, _, err := parseAddress(s.address, 0); err != nil {
			bad("address", "%w", err)
		}
	}
	if s.leaveWait <= 0 {
		bad("leave-wait", "%s: must be above 0", s.leaveWait)
	}
	if s.linger < 0 {
		bad("linger", "%s: must not be negative", s.linger)
	}
	if s.leaveTimeout == 0 {
		s.leaveTimeout = max(registrator.DefaultLeaveTimeout, 2*s.leaveWait)
	}
	if s.stopTimeout == 0 {
		s.stopTimeout = s.leaveTimeout + s.linger + finishTime
	}
	if s.leaveTimeout < s.leaveWait {
		bad("leave-timeout", "%s: must not be shorter than leave-wait, %s", s.leaveTimeout, s.leaveWait)
	}
	if shortest := s.leaveTimeout + s.linger; s.stopTimeout <= shortest {
		bad("stop-timeout", "%s: must be longer than leave-timeout and linger together, %s", s.stopTimeout, shortest)
	}
	if s.id == "" {
		s.id = s.instance
	}
	return errors.Join(errs...)
}

// parseAddress reads IP or IP:port. Only literal addresses: load balancers
// resolve no names.
func parseAddress(text string, port int) (netip.Addr, int, error) {
	if both, err := netip.ParseAddrPort(text); err == nil && both.Port() > 0 {
		return both.Addr(), int(both.Port()), nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.IsUnspecified() {
		return netip.Addr{}, 0, fmt.Errorf("%q: must be the IP address of one machine, or IP:port", text)
	}
	return addr, port, nil
}
