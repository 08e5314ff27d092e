package config

import (
	"slices"
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
	Datacenters         []string // the first one's instances serve, the others' are backups; none: Consul.Datacenter
	PreferZone          bool     // instances of other zones are backups
	WarningTakesTraffic bool     // an instance that Consul has in warning takes traffic

	// Addresses are the service's own: Allow takes the place of that of all
	// services, if it is not empty; Deny adds to it.
	Addresses Addresses

	Check Check
	Slots Slots

	DrainTimeout       time.Duration // from drain to maint at the latest
	SessionKillAfter   time.Duration // from maint until sessions that are left are ended; 0 never ends them
	SessionKillSpread  time.Duration // how long that takes; 0 ends all at once
	DrainSticky        StickyPolicy  // what becomes of clients that stick to a leaving server
	CloseOnRoleChange  bool          // end the sessions of an instance at once that has lost one of Tags
	ReplacementTimeout time.Duration // how long a server that does not come up is waited for

	MinServers int // an unannounced loss never goes below
	Guard      Guard
	Damping    Damping

	Policy  Policy
	Pause   Pause
	Preview Preview

	ServerOptions string   // as written; Options has them checked
	RetryOn       []string // what is tried again on another server; empty in tcp mode

	FrontendExtra []string
	BackendExtra  []string
	Profile       string // of a discovered service whose backend may be made from that; else ""
	ByReload      string // why the backend of another discovered service may not, for people
}

// Options returns the words of the policy and of server_options. Load has checked them.
func (s Service) Options() serveroption.Options {
	o, _ := s.options()
	return o
}

func (s Service) options() (serveroption.Options, error) {
	return serveroption.Parse(s.words()+" "+s.ServerOptions, s.InFile())
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

// Certificates is where the certificates of a service's TLS addresses are.
type Certificates struct {
	Directory string // "" is none
}

// Slots is the room for servers where HAProxy cannot add them at runtime.
type Slots struct {
	Min   int  // how many there are at least
	Spare int  // how many are free after a reload
	Force bool // use slots even where servers can be added
}

// serviceSettings is the table of the settings of one service. They stand in
// the file only: there may be any number of services.
func serviceSettings() []setting[Service] {
	return slices.Concat(serviceRoute(), serviceInstances(), serviceLeave(), serviceDamping(), serviceCheck(), servicePolicy(),
		servicePause(), servicePreview(), serviceRoom(), serviceLines())
}

func serviceRoute() []setting[Service] {
	return []setting[Service]{
		{
			key: "name", derived: "required",
			doc: "Name of the service in Consul.",
			at:  func(s *Service) value { return text{&s.Name, "name", name} },
		},
		{
			key: "backend", derived: "the service's name",
			doc: "Name of the backend in HAProxy.",
			at:  func(s *Service) value { return text{&s.Backend, "name", name} },
		},
		{
			key: "bind", def: "[]",
			doc: "HAProxy `bind` addresses of the service, such as `*:80`, with optional bind options after each address. An address may begin with `ipv4@`, `ipv6@` or `unix@`, have a range of ports, and be one of several separated by commas. One port may belong to one service, frontend or listener of HAProxy only, `*:80` and `10.0.0.1:80` included. Without an address there is only a backend.",
			at:  func(s *Service) value { return listOf(&s.Bind, "bind line", bind) },
		},
		{
			key: "certificates.directory", derived: "none",
			doc: "Directory of certificates for those `bind` addresses that have the word `ssl`. New, renewed and removed ones are changed in HAProxy without a reload. See [certificates](guides/certificates.md).",
			at:  func(s *Service) value { return text{&s.Certificates.Directory, "path", orEmpty(path)} },
		},
		{
			key: "mode", def: "http",
			doc: "HAProxy `mode`.",
			at:  func(s *Service) value { return oneOf(&s.Mode, HTTP, TCP) },
		},
		{
			key: "balance", def: "roundrobin",
			doc: "HAProxy `balance` algorithm. A static algorithm cannot take new servers at runtime, so its backend uses slots. Free slots remain until HAProxy accepts a server without a slot.",
			at:  func(s *Service) value { return text{&s.Balance, "words", balance} },
		},
	}
}

func serviceInstances() []setting[Service] {
	return []setting[Service]{
		{
			key: "tags", def: "[]",
			doc: "Tags that an instance must have, all of them. One that loses a tag leaves the backend at once: see [primary and replica](guides/primary-replica.md). A service may be listed several times, with other tags and another `backend`.",
			at:  func(s *Service) value { return listOf(&s.Tags, "tag", someLine) },
		},
		{
			key: "filter", derived: "none",
			doc: "[Consul filter expression](https://developer.hashicorp.com/consul/api-docs/features/filtering) that an instance must match, such as `Service.Meta.region == \"eu\"`.",
			at:  func(s *Service) value { return text{&s.Filter, "text", oneLine} },
		},
		{
			key: "resolve", def: "false",
			doc: "Look up a host name in an instance's `Service.Address`, as external services have it, every 5 s. Of several addresses the server keeps its own while that is among them; else it gets the lowest, IPv4 first. While lookups fail it keeps the last one. The rules of `addresses` hold for what is found. Without it an instance with a host name is left out; `pointsman check` shows it.",
			at:  func(s *Service) value { return yesNo{&s.Resolve} },
		},
		{
			key: "max_instances", def: "10000",
			doc: "Largest number of instances. The ones that were registered first are used, on every load balancer the same; the others are left out, and counted in the log, the state and `pointsman_instances_beyond_limit`. 0 is no limit.",
			at:  func(s *Service) value { return atLeast(&s.MaxInstances, 0) },
		},
		{
			key: "warning_takes_traffic", def: "true",
			doc: "Whether an instance whose checks are in warning takes traffic.",
			at:  func(s *Service) value { return yesNo{&s.WarningTakesTraffic} },
		},
		{
			key: "addresses.allow", def: "[]", derived: "`addresses.allow` of all services",
			doc: "Networks whose instances take traffic. Replaces the `addresses.allow` of all services.",
			at:  func(s *Service) value { return prefixes(&s.Addresses.Allow) },
		},
		{
			key: "addresses.deny", def: "[]",
			doc: "Networks whose instances take no traffic, in addition to the `addresses.deny` of all services.",
			at:  func(s *Service) value { return prefixes(&s.Addresses.Deny) },
		},
	}
}

func serviceRoom() []setting[Service] {
	return []setting[Service]{
		{
			key: "slots.min", def: "10",
			doc: "Least number of slots where HAProxy cannot add servers at runtime (before 3.0, or with a static balance algorithm).",
			at:  func(s *Service) value { return number{&s.Slots.Min, 1, 10000} },
		},
		{
			key: "slots.spare", def: "4",
			doc: "Least number of free slots after each reload.",
			at:  func(s *Service) value { return number{&s.Slots.Spare, 0, 10000} },
		},
		{
			key: "slots.force", def: "false",
			doc: "Use slots even where HAProxy can add servers at runtime.",
			at:  func(s *Service) value { return yesNo{&s.Slots.Force} },
		},
	}
}

func serviceLines() []setting[Service] {
	return []setting[Service]{
		{
			key: "retry_on", def: "[]", derived: "`[conn-failure, empty-response]` in mode http",
			doc: "HAProxy `retry-on` conditions for requests that may be repeated. Mode http only.",
			at: func(s *Service) value {
				return list{p: &s.RetryOn, what: "list of words", item: retryOn}
			},
		},
		{
			key: "server_options", derived: "none",
			doc: "Additional HAProxy `server` keywords, such as `ssl verify required ca-file /etc/ssl/api.pem`. A server added at runtime gets the same keywords as one in haproxy.cfg; keywords that would differ are refused. See [server options](server-options.md).",
			at:  func(s *Service) value { return text{&s.ServerOptions, "words", orEmpty(plainWords)} },
		},
		{
			key: "frontend_extra", def: "[]",
			doc: "Additional lines of the frontend.",
			at:  func(s *Service) value { return extra(&s.FrontendExtra) },
		},
		{
			key: "backend_extra", def: "[]",
			doc: "Additional lines of the backend. `cookie` needs `dynamic`, see [sticky sessions](guides/sticky-sessions.md). `server` lines declare your own servers, which Pointsman does not change. `default-server` is refused, because HAProxy does not apply it to servers added at runtime.",
			at:  func(s *Service) value { return extra(&s.BackendExtra) },
		},
	}
}
