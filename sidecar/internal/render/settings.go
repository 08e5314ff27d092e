package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Settings is what the operator has set of haproxy.cfg. A template sees these
// fields, with each service's servers beside its own.
type Settings struct {
	Base          string // the operator's own file, which HAProxy loads before ours; "" is none
	Log           string // the words after "log"; "" is no log
	RuntimeSocket string // the address of the runtime socket, as on a bind line
	SocketMode    string // its file mode, octal
	SocketGroup   string // "" leaves it to HAProxy
	User, Group   string // of the worker; "" leaves the line out
	Chroot        string // of the worker; "" is none
	MaxConn       int    // 0 leaves it to HAProxy
	Threads       int    // 0 leaves it to HAProxy
	HardStopAfter time.Duration
	MaxReloads    int
	GlobalExtra   []string // lines for the global section

	Timeouts      []Timeout
	DefaultsExtra []string // lines for the defaults section

	StatsBind string // of the statistics page; "" is none
	StatsURI  string

	ExporterBind string // of HAProxy's Prometheus exporter; "" is none
	ExporterURI  string

	HealthBind string // of HAProxy's own health answer; "" is none
	HealthURI  string

	// Peers are the load balancers that exchange stick tables, this one first; none
	// is no exchange.
	Peers []Peer

	Sections []string // lines of whole sections of the operator's

	Services []Service
	// Profiles are what the backends of discovered services are made from: Backend is
	// empty, and Defaults is the name of the defaults section.
	Profiles []Service

	Frontends []Frontend
	MapPath   string // what the paths of the map files begin with: that of haproxy.cfg

	// Owner is whose file it is: HAProxy tells another sidecar. Of it, File is in the
	// marker; "" is an owner that is not known.
	Owner plan.Owner `json:"-"`

	// Found is what of the services and routes was found in Consul.
	Found route.Found `json:"-"` // its backends are in the marker

	Pauses Pauses `json:"-"` // its rules are in the marker, as lines of the backends
}

// Timeout is one of HAProxy's timeouts.
type Timeout struct {
	Name  string // as in "timeout NAME"
	Value time.Duration
}

// Service is one backend, and its frontend if it binds.
type Service struct {
	Name          string // in Consul
	Backend       string
	Bind          []string
	Certificate   string // the name of HAProxy's default certificate, which only a reload changes
	Mode          string // http or tcp
	Balance       string
	RetryOn       []string
	Check         Check
	ServerOptions string // further words on each server's line, from serveroption
	ServerFiles   string // those of them that name files, with the names; "" is none
	InFile        bool   // servers are never added at runtime
	FrontendExtra []string
	// Preview is the conditions of which a request must meet one to go to the preview
	// backend; none: there is no such rule.
	Preview      []string `json:",omitempty"`
	BackendExtra []string // the lines of the policy, and the operator's
	Beside       string   // whole sections that they need, named after the backend

	// Defaults is the defaults section that has all of the backend but its servers, in a
	// template that prints .Profiles; "" is a backend of its own. HAProxy 3.4 adds and
	// deletes such a backend as it runs.
	Defaults string
}

// Check is HAProxy's own check of each server.
type Check struct {
	Enabled                     bool
	Path, Host                  string // Path "" is a check by connecting
	Inter, FastInter, DownInter time.Duration
	Timeout                     time.Duration
	Rise, Fall                  int
}

// purgeDelay is how long HAProxy keeps idle server connections before it
// closes half of them. It must stay well under the servers' own keep-alive
// timeout, or a request meets a connection that is just being closed
// (docs/haproxy-facts.md, fact 31); most servers close after 5 s or more.
const purgeDelay = time.Second

// Options returns the words that follow the address on each of the service's
// server lines, except those that differ by server. `add server` takes the
// same words: it ignores default-server (management manual, 9.3).
func (s Service) Options() string {
	var words []string
	if c := s.Check; c.Enabled {
		words = append(words, fmt.Sprintf("check inter %s fastinter %s downinter %s rise %d fall %d",
			ms(c.Inter), ms(c.FastInter), ms(c.DownInter), c.Rise, c.Fall))
	}
	if s.Mode == "http" {
		words = append(words, "pool-purge-delay "+ms(purgeDelay))
	}
	if s.ServerOptions != "" {
		words = append(words, s.ServerOptions)
	}
	return strings.Join(words, " ")
}

// ms writes a time as HAProxy reads it.
func ms(d time.Duration) string {
	if d > 0 && d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}
