package registrator_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

// inOther makes a program of dc2 that knows of load balancers in dc1.
func inOther(sidecars ...*api.ServiceEntry) *leaver {
	l := newLeaver()
	l.datacenter, l.config.Sidecars.Datacenters = "dc2", []string{"dc1", "dc2"}
	if sidecars != nil {
		l.elsewhere = map[string][]*api.ServiceEntry{"dc1": sidecars}
	}
	return l
}

// routing is the registration of a sidecar that routes the service "api" of datacenters.
func routing(name, at string, datacenters ...string) *api.ServiceEntry {
	services := []string{"api"}
	for _, d := range datacenters {
		services = append(services, contract.ServiceIn("api", d))
	}
	return entry("pointsman-sidecar-"+name, at, contract.Sidecar{Balancer: name, Services: services})
}

func TestDatacenters_SidecarsThatRouteToTheProgram_AreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := inOther(routing("lb0", lb1At, "dc1", "dc2"), routing("only-dc1", "192.0.2.7:9600", "dc1"), routing("no-datacenter", "192.0.2.8:9600"))
		own, there := newSidecar("lb0").drainsIn(0, 0), newSidecar("lb0").drainsIn(8*time.Second, 3) // 7 s after the mark
		l.with("lb0", lb0At, own.ServeHTTP)
		l.known(routing("of-dc1-alone", "192.0.2.9:9600", "dc1"))
		l.put(lb1At, there.ServeHTTP)
		l.leavesWithin(t, 7*time.Second, 7*time.Second, "lb0 drained", "lb0.dc1 drained")
		if q := own.questions(); strings.Contains(q[0], "dc=") {
			t.Errorf("own sidecar asked %q, want no datacenter", q[0])
		}
		if q := there.questions(); !strings.Contains(q[0], "dc=dc2") {
			t.Errorf("other sidecar asked %q, want the program's datacenter", q[0])
		}
	})
}

// One of the own datacenter that has another one first learns which is meant.
func TestDatacenters_OwnSidecarNamesThem_IsToldTheProgramsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := inOther([]*api.ServiceEntry{}...)
		l.config.Sidecars.Datacenters = nil
		own := newSidecar("lb0").drainsIn(0, 0)
		l.put(lb0At, own.ServeHTTP)
		l.known(routing("lb0", lb0At, "dc1", "dc2"))
		l.leavesWithin(t, l.lag, l.lag, "lb0 drained")
		if q := own.questions(); !strings.Contains(q[0], "dc=dc2") {
			t.Errorf("asked %q, want the program's datacenter", q[0])
		}
	})
}

func TestDatacenters_OwnSidecarListsOnlyThose_IsToldTheProgramsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := inOther([]*api.ServiceEntry{}...)
		l.config.Sidecars.Datacenters = nil
		own := newSidecar("lb0").drainsIn(0, 0)
		l.put(lb0At, own.ServeHTTP)
		l.known(entry("pointsman-sidecar-lb0", lb0At, contract.Sidecar{Balancer: "lb0", Unlisted: true, Services: []string{"api@dc1", "api@dc2"}}))
		l.leavesWithin(t, l.lag, l.lag, "lb0 drained")
		if q := own.questions(); !strings.Contains(q[0], "dc=dc2") {
			t.Errorf("asked %q, want the program's datacenter", q[0])
		}
	})
}

func TestDatacenters_OneIsUnreachable_LeaveWaitAtMost(t *testing.T) {
	for name, elsewhere := range map[string]map[string][]*api.ServiceEntry{
		"refused": {}, "silent": {"dc1": nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := inOther()
				l.elsewhere = elsewhere
				l.with("lb0", lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
				l.leavesWithin(t, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait+l.lag, "lb0 drained", "datacenter dc1 waited")
				if !strings.Contains(l.log.String(), "sidecars of datacenter dc1") {
					t.Errorf("log: want the datacenter named in\n%s", &l.log)
				}
			})
		})
	}
}

// All are asked at once: three that are silent take as long as one.
func TestDatacenters_SeveralAreSilent_LeaveWaitAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := inOther()
		l.config.Sidecars.Datacenters = []string{"dc1", "dc3", "dc4"}
		l.elsewhere = map[string][]*api.ServiceEntry{"dc1": nil, "dc3": nil, "dc4": nil}
		took, err := l.leaves(t, t.Context())
		if err != nil || len(l.outcomes) != 3 {
			t.Errorf("got %v, %q, want the three waited for", err, l.got())
		}
		within(t, took, registrator.DefaultLeaveWait, registrator.DefaultLeaveWait+l.lag)
	})
}

func TestDatacenters_OneAnswersLater_ItsSidecarsAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := inOther()
		l.elsewhere = map[string][]*api.ServiceEntry{"dc1": nil}
		l.with("lb0", lb0At, newSidecar("lb0").drainsIn(0, 0).ServeHTTP)
		l.put(lb1At, newSidecar("lb1").drainsIn(6*time.Second, 1).ServeHTTP)
		time.AfterFunc(1500*time.Millisecond, func() { // half a second after the mark
			l.change(func() { l.elsewhere["dc1"] = []*api.ServiceEntry{routing("lb1", lb1At, "dc1", "dc2")} })
		})
		l.leavesWithin(t, 5*time.Second, 5*time.Second, "lb0 drained", "datacenter dc1 waited", "lb1.dc1 drained")
	})
}

func TestDatacenters_OneGoesAwayMeanwhile_KnownSidecarsAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := inOther(routing("lb1", lb1At, "dc1", "dc2"))
		l.put(lb1At, newSidecar("lb1").drainsIn(8*time.Second, 1).ServeHTTP)
		time.AfterFunc(2*time.Second, func() { l.change(func() { l.elsewhere["dc1"] = nil }) })
		l.leavesWithin(t, 7*time.Second, 7*time.Second, "lb1.dc1 drained")
	})
}

func TestDatacenters_WrongNames_AreRefused(t *testing.T) {
	for name, want := range map[string]string{"": `datacenter ""`, "DC1": `datacenter "DC1"`, "dc1&stale": "want lower-case letters", "dc1\n": "want lower-case letters"} {
		_, err := registrator.New(registrator.Config{Service: "api", Port: 1, Sidecars: registrator.Sidecars{Datacenters: []string{name}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
	_, err := registrator.New(registrator.Config{Service: "api", Port: 1, Sidecars: registrator.Sidecars{Datacenters: []string{"dc1", "dc1"}}})
	if err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("one twice: got %v", err)
	}
}
