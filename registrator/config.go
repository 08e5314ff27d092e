package registrator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator/contract"
)

// The defaults of Config.
const (
	DefaultWatchdog  = 2 * time.Second
	DefaultLeaveWait = 3 * time.Second
	// DefaultLeaveTimeout is above the time after which a sidecar ends what is
	// left on a server that leaves (drain_timeout and session_kill_after, 35 s by
	// default).
	DefaultLeaveTimeout = 45 * time.Second
	DefaultSidecars     = contract.SidecarService
)

// Config says what to register, and where.
type Config struct {
	// Consul is how to reach the agent. What is unset in it, or all if it is
	// nil, comes from the variables that Consul's own CLI reads
	// (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN and so on), by api.DefaultConfig.
	Consul *api.Config

	Service string // the service's name
	ID      string // unique on the node; default: service-hostname-port
	Address string // a literal IP address; default: the node's
	Port    int    // 1 to 65535
	Tags    []string
	Meta    map[string]string // the program's own; the contract's keys are refused here

	Version string // at most contract.MaxVersion printable ASCII characters
	Backup  bool   // take traffic only when no other can
	MaxConn int    // connections at a time that each load balancer may open; 0 is no limit
	// AgentPort is a port of the program's own for HAProxy's agent check, which hears
	// there that the program leaves, also where neither a sidecar nor Consul works:
	// 1 to 65535, or 0 for none. Register listens there, at Address, or at all
	// addresses where that is none of this machine's, and Leave and Close end that. The
	// load balancers ask where their service has agent_check.from_meta.
	AgentPort int

	Weights api.AgentWeights // default: Consul's, 1 and 1

	// Owner is what the registration is recognised by as this process's own. A
	// registration under the same ID that has another one is never marked or
	// removed. Default: a random text, one for each process.
	Owner string

	// Exclusive says that no other process may hold the ID. Whatever else the
	// agent, or Consul's catalog, has under it is replaced when the watchdog sees
	// it, also a registration of another process.
	Exclusive bool

	Checks []Check // none: healthy for as long as the node is

	// Watchdog is how often the agent is asked whether it still knows the
	// service. Default DefaultWatchdog.
	Watchdog time.Duration

	// Sidecars is how the load balancers are asked, while the program leaves,
	// whether they have sessions on it still.
	Sidecars Sidecars

	// LeaveWait is how long, after the mark that says it leaves, the program
	// keeps serving for a load balancer that cannot be asked: the time that it has
	// to see the mark in Consul and to stop sending. It also bounds how long the
	// mark is tried. Default DefaultLeaveWait.
	LeaveWait time.Duration

	// LeaveTimeout bounds the time from the beginning of Leave to the stop of
	// the program, and so the wait for load balancers that have sessions on it
	// still. Default DefaultLeaveTimeout, or twice LeaveWait if that is
	// longer: for the mark, and for the wait after it.
	LeaveTimeout time.Duration

	// OnDrain hears of each load balancer that was to be asked, once it has
	// drained or is not waited for any more: for metrics. Leave calls it, one call at
	// a time, and goes on when it returns. It may be nil. It is not called where
	// there is no sidecar to ask.
	OnDrain func(Drain)

	Logger hclog.Logger // default: none
}

// check returns c with its defaults, or all that is wrong with it.
func (c Config) check() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("registrator: "+format, args...))
	}
	if c.Service == "" {
		bad("service: no name")
	}
	if c.Port < 1 || c.Port > 65535 {
		bad("port %d: want 1 to 65535", c.Port)
	}
	if c.AgentPort < 0 || c.AgentPort > 65535 || c.AgentPort != 0 && c.AgentPort == c.Port {
		bad("agent port %d: want 1 to 65535, and another one than port", c.AgentPort)
	}
	if addr, err := netip.ParseAddr(c.Address); c.Address != "" && (err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast()) {
		bad("address %q: want the literal IP address of one machine (load balancers resolve no names)", c.Address)
	}
	if c.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			bad("ID: none given, and the host has no name: %w", err)
		}
		c.ID = c.Service + "-" + host + "-" + strconv.Itoa(c.Port)
	}
	if c.Weights != (api.AgentWeights{}) && (c.Weights.Passing < 1 || c.Weights.Warning < 0) {
		bad("weights %+v: want passing 1 or more, warning 0 or more", c.Weights)
	}
	c.Owner = cmp.Or(c.Owner, processOwner())
	if err := contract.CheckOwner(c.Owner); err != nil {
		bad("owner: %w", err)
	}
	c.Watchdog = orDefault(c.Watchdog, DefaultWatchdog)
	c.LeaveWait = orDefault(c.LeaveWait, DefaultLeaveWait)
	c.LeaveTimeout = orDefault(c.LeaveTimeout, max(DefaultLeaveTimeout, 2*c.LeaveWait))
	switch {
	case c.Watchdog < 0 || c.LeaveWait < 0 || c.LeaveTimeout < 0:
		bad("watchdog %v, leave wait %v and leave timeout %v: want times above 0", c.Watchdog, c.LeaveWait, c.LeaveTimeout)
	case c.LeaveTimeout < c.LeaveWait:
		bad("leave timeout %v: want no less than the leave wait, %v", c.LeaveTimeout, c.LeaveWait)
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	c.Tags, c.Meta = slices.Clone(c.Tags), maps.Clone(c.Meta)
	checks, errChecks := checkAll(c.Checks)
	sidecars, errSidecars := c.Sidecars.check()
	c.Checks, c.Sidecars = checks, sidecars
	return c, errors.Join(errors.Join(errs...), c.checkMeta(), errChecks, errSidecars)
}

// said is what the contract's keys will say.
func (c Config) said(leaving time.Time) contract.Meta {
	return contract.Meta{Version: c.Version, Backup: c.Backup, MaxConn: c.MaxConn, AgentPort: c.AgentPort, Leaving: leaving}
}

// checkMeta holds the meta to the contract, and to Consul's own bounds
// (API documentation, "Register Service", Meta).
func (c Config) checkMeta() error {
	const maxPairs, maxKey, maxValue = 64, 128, 512
	var errs []error
	if _, err := contract.Parse(c.said(time.Time{}).Format()); err != nil {
		errs = append(errs, fmt.Errorf("registrator: %w", err))
	}
	if own := len(contract.InstanceKeys()); len(c.Meta)+own > maxPairs {
		errs = append(errs, fmt.Errorf("registrator: meta: %d keys: Consul takes %d, %d of them the contract's", len(c.Meta), maxPairs, own))
	}
	legal := regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	for _, key := range slices.Sorted(maps.Keys(c.Meta)) {
		switch {
		case slices.Contains(contract.InstanceKeys(), key):
			errs = append(errs, fmt.Errorf("registrator: meta %q: the key is the contract's; use the field of Config", key))
		case !legal.MatchString(key):
			errs = append(errs, fmt.Errorf("registrator: meta %q: Consul takes keys of 1 to %d letters, digits, _ and -", key, maxKey))
		case len(c.Meta[key]) > maxValue:
			errs = append(errs, fmt.Errorf("registrator: meta %q: %d bytes: Consul takes %d", key, len(c.Meta[key]), maxValue))
		}
	}
	return errors.Join(errs...)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, errPort := strconv.Atoi(port)
	return err == nil && errPort == nil && host != "" && n >= 1 && n <= 65535
}
