// Package catalog holds the values that describe what Consul knows: services,
// their instances, and a Snapshot of them all at one moment.
//
// Its invariant: every value in it is typed and checked. A string that came
// from the catalog and is kept here (an ID, a node's name) is for people, logs
// and comparison; only Instance.Server, Addr, Weight, MaxConn and AgentPort may reach
// HAProxy's socket or file, and those are safe by construction.
//
// It is a leaf: it imports nothing of this project, does no I/O and reads no
// clock. Every package of the sidecar may import it.
package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Health is what Consul says of an instance, the worst of its service's and
// its node's checks.
type Health uint8

// The states of health, from best to worst. Gone is not among them: an
// instance that Consul no longer lists is absent from its Service.
const (
	Passing Health = iota
	Warning
	Critical
	// Maintenance is Consul's maintenance mode, of the service or of its node.
	Maintenance
)

// String returns Consul's own word for the state.
func (h Health) String() string {
	switch h {
	case Passing:
		return "passing"
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	case Maintenance:
		return "maintenance"
	}
	return "unknown"
}

// Instance is one registered instance of a service.
type Instance struct {
	ID     string // Consul's service ID, unique on its node only; for people and logs
	Node   string // Consul's node name; for people and logs
	Server string // the server's name in HAProxy, from ServerName

	Addr    netip.AddrPort // where it listens: Service.Address, else Node.Address; always valid, port above 0
	Health  Health
	Weight  int    // HAProxy's weight, 0 to 256, from Consul's Weights for the present health
	Version string // contract meta "version"; at most 64 printable characters, for people, logs and /live
	Backup  bool   // contract meta "backup"
	MaxConn int    // contract meta "maxconn"; 0 is no limit

	// ByShare says that Weight was made from its version's share of a rollout;
	// Registered is the one from Consul's Weights then, 0 to 256.
	ByShare    bool
	Registered int

	// AgentPort is where HAProxy's agent check may ask, at the instance's own address
	// (contract meta "pointsman-agent-port"); 0 is nowhere.
	AgentPort int

	// Leaving is when the instance began to leave (contract meta
	// "pointsman-drain"), or zero.
	Leaving time.Time
}

// Rejection is an instance that was left out because something in its
// registration could not be trusted or used.
type Rejection struct {
	ID, Node string // as registered, quoted where they are printed
	Err      error  // names the field and the value
}

// BeyondLimitError is why an instance is left out that is younger than as many others
// as the service may have.
type BeyondLimitError struct{ Limit int }

func (e *BeyondLimitError) Error() string {
	return fmt.Sprintf("beyond max_instances: %d instances were registered before it", e.Limit)
}

// IsBeyondLimit reports whether the instance is left out for that.
func (r Rejection) IsBeyondLimit() bool {
	_, is := errors.AsType[*BeyondLimitError](r.Err)
	return is
}

// BeyondLimit is how many instances are left out for that.
func (s Service) BeyondLimit() (n int) {
	for _, r := range s.Rejected {
		if r.IsBeyondLimit() {
			n++
		}
	}
	return n
}

// Claim is a tag, or a meta value, by which instances of a service may claim routes.
type Claim struct {
	Meta  string // the key; "" is a tag
	Text  string
	Since uint64 // the lowest CreateIndex of the instances that say it
}

// CheckOutput is what a check in Consul says of an instance that is not passing.
type CheckOutput struct {
	ID, Node string // of the instance
	Text     string // the name of its worst check, and that check's output, by Excerpt
}

// Service is all that Consul answered about one service at one index, as far as one
// backend is concerned.
type Service struct {
	Name string // the backend's: one service may have several, with other tags each

	// Known is false until Consul has given one complete, consistent answer.
	// The other fields say nothing before that: unknown is not empty.
	Known bool

	Instances []Instance // sorted by Server, each name once
	// Untagged are the instances that lack a tag which the backend asks for. They are
	// registered, and have another role. Of them only ID, Node, Server and Addr are
	// set, and Addr may be invalid. Sorted by Server.
	Untagged []Instance
	Rejected []Rejection // sorted by ID, then Node
	// Claims is what Instances say of routes, each once, in one order. It is as
	// registered: only package route reads it.
	Claims []Claim
	// Outputs are those of Instances that are not passing, sorted by ID, then Node. They are
	// for people, and no decision depends on them.
	Outputs []CheckOutput
	Index   uint64 // Consul's index of the answer

	Rollout *Rollout // how its versions share the traffic; nil: no rollout is recorded
}

// Snapshot is what is known of all watched services. It is immutable: a new
// answer makes a new Snapshot.
type Snapshot struct {
	services []*Service // sorted by Name, each once, and never changed
}

// NewSnapshot sorts the services by name. Of two with one name the later wins.
func NewSnapshot(services ...Service) Snapshot {
	byName := make(map[string]Service, len(services))
	for _, s := range services {
		byName[s.Name] = s
	}
	out := make([]*Service, 0, len(byName))
	for _, s := range byName {
		out = append(out, &s)
	}
	slices.SortFunc(out, func(a, b *Service) int { return cmp.Compare(a.Name, b.Name) })
	return Snapshot{services: out}
}

// With returns a Snapshot in which s has replaced the service of its name.
func (s Snapshot) With(service Service) Snapshot {
	i, found := s.find(service.Name)
	out := make([]*Service, 0, len(s.services)+1)
	out = append(out, s.services[:i]...)
	out = append(out, &service)
	if found {
		i++
	}
	return Snapshot{services: append(out, s.services[i:]...)}
}

// Service returns the service of that name. One that was never heard of is not
// Known.
func (s Snapshot) Service(name string) Service {
	if i, found := s.find(name); found {
		return *s.services[i]
	}
	return Service{Name: name}
}

// InOrder returns what Service does, for names that nearly all come in their order: of very
// many each is found at once.
func (s Snapshot) InOrder() func(name string) Service {
	next := 0
	return func(name string) Service {
		i, found := next, next < len(s.services) && s.services[next].Name == name
		if !found {
			i, found = s.find(name)
		}
		if !found {
			return Service{Name: name}
		}
		next = i + 1
		return *s.services[i]
	}
}

// Largest is how many instances the largest service has.
func (s Snapshot) Largest() (n int) {
	for _, service := range s.services {
		n = max(n, len(service.Instances))
	}
	return n
}

// Services returns all services, sorted by name. The slice is the caller's; the
// instances in it are shared and must not be changed.
func (s Snapshot) Services() []Service {
	out := make([]Service, 0, len(s.services))
	for _, service := range s.services {
		out = append(out, *service)
	}
	return out
}

// Replace returns a Snapshot in which services that it has have others in their place.
func (s Snapshot) Replace(services ...Service) Snapshot {
	out := slices.Clone(s.services)
	for _, service := range services {
		if i, found := s.find(service.Name); found {
			out[i] = &service
		}
	}
	return Snapshot{services: out}
}

// Same reports whether two snapshots are one value, without looking at what they hold.
func (s Snapshot) Same(o Snapshot) bool {
	return len(s.services) == len(o.services) && (len(s.services) == 0 || &s.services[0] == &o.services[0])
}

// Output returns what a check says of an instance that is not passing; "" if none does.
func (s Service) Output(id, node string) string {
	i, found := slices.BinarySearchFunc(s.Outputs, CheckOutput{ID: id, Node: node}, CheckOutput.Compare)
	if !found {
		return ""
	}
	return s.Outputs[i].Text
}

// Compare sorts by ID, then Node.
func (c CheckOutput) Compare(o CheckOutput) int {
	return cmp.Or(cmp.Compare(c.ID, o.ID), cmp.Compare(c.Node, o.Node))
}

func (s Snapshot) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.services, name, func(x *Service, n string) int { return cmp.Compare(x.Name, n) })
}

// Equal reports whether two answers say the same of the service. The index and the outputs
// of checks are not compared: Consul changes them where nothing matters to HAProxy.
func (s Service) Equal(o Service) bool {
	return s.Name == o.Name && s.Known == o.Known && slices.Equal(s.Claims, o.Claims) &&
		slices.EqualFunc(s.Instances, o.Instances, Instance.Equal) &&
		slices.EqualFunc(s.Untagged, o.Untagged, Instance.Equal) && s.Rollout.Equal(o.Rollout) &&
		slices.EqualFunc(s.Rejected, o.Rejected, func(a, b Rejection) bool {
			return a.ID == b.ID && a.Node == b.Node && a.Err.Error() == b.Err.Error()
		})
}

// ConsulWeight returns the weight from Consul's Weights for the present health, at most 256,
// as for HAProxy.
func (i Instance) ConsulWeight() int {
	if i.ByShare {
		return i.Registered
	}
	return i.Weight
}

// Equal reports whether two instances are the same in every field.
func (i Instance) Equal(o Instance) bool {
	leaving := i.Leaving.Equal(o.Leaving)
	i.Leaving, o.Leaving = time.Time{}, time.Time{}
	return leaving && i == o
}
