package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Status is how a load balancer does, in one word.
type Status string

// The statuses, the best first.
const (
	InStep     Status = "in_step"     // HAProxy runs what Consul says, and all of it takes traffic
	Behind     Status = "behind"      // something is under way, and ends by itself
	Degraded   Status = "degraded"    // something is wrong that an operator should look at
	NotRunning Status = "not_running" // HAProxy does not run, or cannot be read
)

var statuses = []Status{InStep, Behind, Degraded, NotRunning}

// Verdict is the status of a load balancer, with what it comes from.
type Verdict struct {
	Status  Status    `json:"status"`
	Reasons []Finding `json:"reasons"` // the worst first; empty if there is nothing to say
}

// Finding is one thing that an operator should know.
type Finding struct {
	Status  Status `json:"status"` // in_step: it is only a note
	Service string `json:"service,omitempty"`
	Backend string `json:"backend,omitempty"` // of the service, which may have several
	Text    string `json:"text"`
}

// Verdict judges a state. It looks at every instance, so it is made for those
// who ask, and not in the loop.
func (s *State) Verdict() Verdict {
	v := Verdict{Status: InStep, Reasons: []Finding{}}
	v.haproxy(s)
	if !s.Ready && s.HAProxy.Running {
		v.add(Behind, "not ready: "+s.NotReady)
	}
	if c := s.Consul; c.Error != "" {
		v.add(Degraded, "Consul query failed, keeping last known instances: "+c.Error)
	}
	if e := s.Consul.RolloutsError; e != "" && s.Consul.RolloutsUnknown {
		v.add(Degraded, "rollouts cannot be read: "+e)
	} else if e != "" {
		v.add(InStep, "rollouts cannot be read, keeping last known: "+e)
	}
	if e := s.Consul.PausesError; e != "" {
		v.add(Degraded, "pauses of services cannot be read, keeping last known: "+e)
	}
	v.file(s.File)
	if r := s.Reloads; r.Error != "" {
		v.add(Degraded, "reload failed, previous configuration still active: "+r.Error)
	} else if r.Pending != "" {
		text := "reload due: " + r.Pending
		if q := s.Requested(); !q.HasEnded() && q.By != "" {
			text = "reload due: requested by " + q.By
			if r.Pending != string(plan.Requested) {
				text += ", " + r.Pending
			}
		}
		if r.WaitsFor != "" {
			text += ", waits for " + r.WaitsFor
		}
		v.add(Behind, text)
	} else if q := s.Requested(); q.Status == RequestFailed && q.pid == s.HAProxy.PID { // another worker has loaded the file since
		v.add(Degraded, fmt.Sprintf("reload requested by %s failed, previous configuration still active: %s", q.By, q.Error))
	}
	for i := range s.Services {
		v.service(&s.Services[i], s.HAProxy.Running)
	}
	if i := slices.IndexFunc(s.Frontends, func(f FrontendState) bool { return f.Error != "" }); i >= 0 {
		v.add(Degraded, "routes not applied: "+s.Frontends[i].Error) // all have the same
	}
	slices.SortStableFunc(v.Reasons, func(a, b Finding) int {
		return cmp.Compare(slices.Index(statuses, b.Status), slices.Index(statuses, a.Status))
	})
	return v
}

func (v *Verdict) add(status Status, text string) { v.addTo(status, "", "", text) }

func (v *Verdict) addTo(status Status, service, backend, text string) {
	if slices.Index(statuses, status) > slices.Index(statuses, v.Status) {
		v.Status = status
	}
	v.Reasons = append(v.Reasons, Finding{Status: status, Service: service, Backend: backend, Text: text})
}

func (v *Verdict) haproxy(s *State) {
	h := s.HAProxy
	switch {
	case h.Running:
	case s.Started.IsZero():
		v.add(Behind, s.NotReady)
	case h.Stopped:
		v.add(NotRunning, "HAProxy is not running")
	default:
		v.add(NotRunning, "HAProxy cannot be read: "+cmp.Or(h.Error, s.NotReady))
	}
	if h.Maintenance {
		v.add(InStep, "maintenance: this load balancer is out of rotation")
	}
}

func (v *Verdict) file(f FileState) {
	for _, l := range f.LeftOut {
		kept := "left out of haproxy.cfg"
		if l.AsBefore {
			kept = "previous version kept"
		}
		v.addTo(Degraded, l.Service, l.Backend, "service configuration rejected, "+kept+": "+l.Error)
	}
	switch {
	case f.Error != "":
		v.add(Degraded, "haproxy.cfg not written: "+f.Error)
	case f.Pending:
		v.add(Behind, "haproxy.cfg is about to be written")
	}
}

func (v *Verdict) service(s *ServiceState, running bool) {
	add := func(status Status, format string, args ...any) {
		v.addTo(status, s.Name, s.Backend, fmt.Sprintf(format, args...))
	}
	if !s.Known {
		add(Behind, "no complete answer from Consul yet")
	}
	if n := len(s.Guard.Held); n > 0 {
		add(Degraded, "mass removal blocked, the guard holds %s", count(n, "server"))
	}
	v.rollout(s)
	v.pause(s)
	if n := len(s.Rejected); n > 0 {
		add(Degraded, "%s rejected", count(n, "instance"))
	}
	if !running {
		return // nothing is known of servers
	}
	live, total, ill, kept, phases := 0, 0, 0, 0, map[Phase]int{}
	for i := range s.Instances {
		inst := &s.Instances[i]
		if inst.Own {
			live++ // the operator's own may take the traffic
			continue
		}
		total++
		if inst.TakesTraffic() {
			live++
			continue
		}
		switch {
		case inst.Phase == PhaseOut && inst.isWanted(), inst.Phase == PhaseUnknown && inst.isWanted():
			phases[PhaseStarting]++
		case inst.Phase == PhaseOut, inst.Phase == PhaseDrained, inst.Phase == PhaseUnknown:
			switch {
			case inst.Leaving, inst.Health == healthGone, inst.Health == healthUnknown:
			case !inst.Drain.IsZero():
				kept++
			default:
				ill++
			}
		default:
			phases[inst.Phase]++
		}
	}
	if s.Known && live == 0 {
		if total == 0 {
			add(Degraded, "no instance: HAProxy has no server to send requests to")
		} else {
			add(Degraded, "no server takes traffic")
		}
	}
	if n := phases[PhaseDown]; n > 0 {
		add(Degraded, "%s down, HAProxy's check fails", count(n, "server"))
	}
	if n := phases[PhaseStarting]; n > 0 {
		add(Behind, "%s starting", count(n, "instance"))
	}
	if n := phases[PhaseDraining]; n > 0 {
		add(Behind, "%s draining", count(n, "server"))
	}
	if kept > 0 {
		add(InStep, "%s kept in drain by an operator", count(kept, "server"))
	}
	if ill > 0 {
		add(InStep, "%s out of traffic, as Consul says", count(ill, "instance"))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// TakesTraffic reports whether HAProxy would send new requests to the instance: it is up
// with a weight. A backup that is on standby gets them only when no other server is up.
func (i *InstanceState) TakesTraffic() bool { return i.Phase == PhaseUp && i.Weight > 0 }

// GetsRequests reports whether HAProxy sends new requests to the instance now.
func (i *InstanceState) GetsRequests() bool { return i.TakesTraffic() && !i.Standby }

// isWanted reports whether Consul wants the instance in traffic, and no operator
// keeps it out.
func (i *InstanceState) isWanted() bool {
	return !i.Leaving && i.Drain.IsZero() && i.Health == catalog.Passing.String()
}

// waitWords say what the next change of a server waits for. One that waits for HAProxy's
// check is starting or down, and outOfTraffic says so.
var waitWords = map[plan.WaitReason]string{
	plan.ForSessions:    "waiting for its sessions to end",
	plan.ForReplacement: "waiting for a replacement that is up",
	plan.ForGuard:       "held by the guard, HAProxy's check decides",
	plan.ForDamping:     "flapping, suppressed until stable",
	plan.ForSlot:        "waiting for a slot, which takes a reload",
	plan.ForAgent:       "its agent check keeps it out of traffic",
	plan.ForConsul:      "waiting for a complete answer from Consul",
}

// reason says why the instance gets no traffic, or what is about to change;
// "" for one that takes traffic and stays. running is whether HAProxy was read.
func (i *InstanceState) reason(running bool) string {
	if !running {
		return "HAProxy does not run or cannot be read"
	}
	var parts []string
	if !i.GetsRequests() {
		parts = append(parts, i.outOfTraffic())
	}
	if w := waitWords[plan.WaitReason(i.Waiting)]; w != "" {
		parts = append(parts, w)
	}
	return strings.Join(parts, "; ")
}

// outOfTraffic is why HAProxy sends the instance no new request.
func (i *InstanceState) outOfTraffic() string {
	switch {
	case i.Standby:
		return "it is a backup, used while no other server of the backend is up"
	case i.Phase == PhaseUp && i.ByShare:
		return "the rollout gives it no share of the traffic"
	case i.Phase == PhaseUp:
		return "its weight is 0"
	case i.Phase == PhaseDown:
		return withCheck("HAProxy's check fails", i.Check)
	case i.Phase == PhaseStarting:
		return withCheck("HAProxy's check has not passed yet", i.Check)
	case !i.Drain.IsZero():
		return "an operator keeps it in drain"
	case i.Leaving:
		return "it is leaving"
	case i.RoleLost:
		return "its instance lacks a tag of the backend"
	case i.Health == healthGone:
		return "Consul no longer lists it"
	case i.Health == catalog.Maintenance.String():
		return "maintenance mode in Consul"
	case i.Health != catalog.Passing.String() && i.Health != healthUnknown:
		return "its check in Consul is " + i.Health
	case i.Phase == PhaseUnknown:
		return "HAProxy has no server for it yet"
	}
	return "HAProxy has it in " + i.Admin
}

// withCheck adds what HAProxy's last check came to.
func withCheck(text, check string) string {
	if check == "" {
		return text
	}
	return text + ": " + check
}
