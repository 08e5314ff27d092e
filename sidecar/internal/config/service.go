package config

import (
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/serveroption"
)

// Service is one Consul service that HAProxy routes to.
type Service struct {
	Name    string   // Consul's
	Backend string   // HAProxy's
	Bind    []string // each an address and perhaps words after it, as on a bind line; empty is a backend without frontend

	Certificates Certificates

	Mode    Mode
	Balance string // the words after "balance"

	Tags                []string // an instance must have them all
	Filter              string   // Consul's filter expression; "" is none
	Resolve             bool     // look up host names in Service.Address
	MaxInstances        int      // the oldest take part, others are left out; 0 is no limit
	WarningTakesTraffic bool     // an instance that Consul has in warning takes traffic

	// Addresses are the service's own: Allow takes the place of that of all
	// services, if it is not empty; Deny adds to it.
	Addresses Addresses

	Check Check
	Slots Slots

	DrainTimeout       time.Duration // from drain to maint at the latest
	SessionKillAfter   time.Duration // from maint until sessions that are left are ended; 0 never ends them
	DrainSticky        StickyPolicy  // what becomes of clients that stick to a leaving server
	CloseOnRoleChange  bool          // end the sessions of an instance at once that has lost one of Tags
	ReplacementTimeout time.Duration // how long a server that does not come up is waited for

	MinServers int // an unannounced loss never goes below
	Guard      Guard
	Damping    Damping

	Policy Policy

	ServerOptions string   // as written; Options has them checked
	RetryOn       []string // what is tried again on another server; empty in tcp mode

	FrontendExtra []string
	BackendExtra  []string
}

// Options returns the words of the policy and of server_options, checked. Load has
// refused what Options could not read.
func (s Service) Options() serveroption.Options {
	o, _ := serveroption.Parse(s.words()+" "+s.ServerOptions, s.InFile())
	return o
}

// InFile reports whether the servers are never added at runtime: each is a slot
// in haproxy.cfg.
func (s Service) InFile() bool { return s.Slots.Force || s.Static() }

// Static reports whether HAProxy refuses to add servers, and most weights,
// because of how the service is balanced (configuration manual, "balance" and
// "hash-type"). A sidecar finds that out from HAProxy too; known beforehand, a
// new one does not take the slots that are there for useless.
func (s Service) Static() bool {
	algorithm, _, _ := strings.Cut(s.Balance, " ")
	algorithm, _, _ = strings.Cut(algorithm, "(")
	switch algorithm {
	case "roundrobin", "leastconn", "first", "random":
		return false
	}
	for _, line := range s.BackendExtra {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "hash-type" && words[1] == "consistent" {
			return false
		}
	}
	return true // static-rr, or a hash over a map
}

// Mode is what HAProxy understands of the traffic.
type Mode string

// The modes.
const (
	HTTP Mode = "http"
	TCP  Mode = "tcp"
)

// StickyPolicy is what becomes of clients that stick to a server that leaves.
type StickyPolicy string

// The policies.
const (
	StickyKeep StickyPolicy = "keep"
	StickyMove StickyPolicy = "move"
)

// Certificates is where the certificates of a service's TLS addresses are.
type Certificates struct {
	Directory string // "" is none
}

// CheckType is the protocol of a health check.
type CheckType string

// The protocols.
const (
	CheckHTTP     CheckType = "http"
	CheckTCP      CheckType = "tcp"
	CheckRedis    CheckType = "redis"
	CheckPostgres CheckType = "pgsql"
	CheckMySQL    CheckType = "mysql"
)

// Check is HAProxy's own health check of a service's servers. Its times are
// whole milliseconds.
type Check struct {
	Enabled bool
	Type    CheckType
	User    string // "" is none
	Path    string // "" checks that a connection is accepted
	Host    string // the Host header; "" sends the backend's name, since HTTP/1.1 needs one

	Inter     time.Duration // between checks of a server that is up
	FastInter time.Duration // while it is changing
	DownInter time.Duration // while it is down
	Timeout   time.Duration
	Rise      int
	Fall      int
}

// Addresses is where instances may be, as CIDRs or single addresses that Prefixes
// reads.
type Addresses struct {
	Allow []string // empty is anywhere
	Deny  []string
}

// Guard is how losses are counted together, and for how long they are held.
type Guard struct {
	MaxLossRatio float64       // share of servers, 0 to 1, that may be lost unannounced at once
	Window       time.Duration // servers that become unhealthy within it count as lost at once
	Hold         time.Duration // longest hold of a mass loss; 0 is without end

	HoldDeregistered time.Duration // the same for servers that Consul does not list
}

// Damping is how instances are kept out whose health changes often.
type Damping struct {
	Flaps  int           // number of failures that is too many; 0 damps no instance
	Min    time.Duration // how long such a one must stay well before it is let in, at first
	Max    time.Duration // and at most; Min at least
	Forget time.Duration // time without another failure after which all are forgotten
}

// Slots is the room for servers where HAProxy cannot add them at runtime.
type Slots struct {
	Min   int  // how many there are at least
	Spare int  // how many are free after a reload
	Force bool // use slots even where servers can be added
}
