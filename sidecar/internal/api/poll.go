package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// Facts is what is so on this load balancer at one moment.
type Facts interface {
	// Drain tells of one instance by its Consul ID. routed is false for a
	// service that this load balancer does not route.
	Drain(service, instance string) (d Drain, routed bool)
	// Live counts the instances of a version ("" is any) that take traffic.
	Live(service, version string) (count int, routed bool)
	// Index is that of Consul's answer which the facts about a service come
	// from; 0 before the first.
	Index(service string) uint64
	// In gives the facts about the instances of one of Consul's datacenters, which may
	// have other indexes, and IDs that other instances have elsewhere.
	In(datacenter string) Facts
}

// Drain is what is left of an instance's traffic; its fields are those of
// sidecarapi.Drain.
type Drain struct {
	Instance string // its ID in the state
	Drained  bool
	Phase    string
	Sessions int
}

// Watch gives the facts of now, and a channel that is closed when there are
// newer ones.
type Watch func() (Facts, <-chan struct{})

// The bounds of a long poll.
const (
	defaultWait = 30 * time.Second
	maxWait     = sidecarapi.MaxWait
	maxName     = 256
	maxCount    = 1 << 30 // more instances than anybody has
)

// unroutedAnswer is the body of a 404. It says whose it is: a program that is not a sidecar
// listens at an address may answer 404 as well, and prove nothing.
type unroutedAnswer struct {
	LoadBalancer string `json:"load_balancer"`
	problem
}

// polls answers the long polls: /api/v1/drain/{service}/{instance} and
// /api/v1/live/{service}.
type polls struct {
	name   string // the load balancer's
	watch  Watch
	attend func(change int)
	told   func(service, instance string) // that it is drained, and has a server
}

func newPolls(name string, watch Watch, attend func(int), told func(service, instance string)) *polls {
	return &polls{name: name, watch: watch, attend: attend, told: told}
}

// drain answers once no session is on the instance, or when the wait is
// over; "drained" says which. An index makes it claim nothing before the facts
// are at least as new as Consul's answer of that index: an instance that has
// registered a moment ago is not known here yet, and that is no proof. The instance and
// the index are those of the datacenter that dc names, without it of the service's first.
func (p *polls) drain(w http.ResponseWriter, r *http.Request) {
	service, instance, ok := strings.Cut(r.PathValue("rest"), "/")
	if !ok || !isName(service) || !isName(instance) {
		writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/drain/{service}/{instance}, each of 1 to 256 bytes"})
		return
	}
	index, err := wholeNumber(r, "index", 0)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, problem{err.Error()})
		return
	}
	datacenter := r.URL.Query().Get("dc")
	if len(datacenter) > maxName {
		writeJSON(w, http.StatusBadRequest, problem{"dc: want a name of at most 256 bytes"})
		return
	}
	begun := time.Now()
	answer := sidecarapi.Drain{LoadBalancer: p.name, Service: service, Instance: instance}
	p.poll(w, r, func(f Facts) (done, routed bool) {
		if datacenter != "" {
			f = f.In(datacenter)
		}
		d, routed := f.Drain(service, instance)
		answer.Index = f.Index(service)
		answer.Drained, answer.Phase, answer.Sessions = d.Drained && answer.Index >= index, d.Phase, d.Sessions
		if answer.Drained && answer.Phase != "" { // without a server there is nothing to look at, and anyone can ask
			p.told(service, d.Instance)
		}
		return answer.Drained, routed
	}, func() any {
		answer.WaitedMS = milliseconds(time.Since(begun))
		return answer
	})
}

// live answers once at least count instances of the version take traffic, or
// when the wait is over; "live" says which.
func (p *polls) live(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	answer := sidecarapi.Live{LoadBalancer: p.name, Service: r.PathValue("rest"), Version: query.Get("version"), Want: 1}
	if !isName(answer.Service) || strings.Contains(answer.Service, "/") || len(answer.Version) > maxName {
		writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/live/{service}?version=&count=&wait="})
		return
	}
	count, errCount := wholeNumber(r, "count", 1)
	index, errIndex := wholeNumber(r, "index", 0)
	if err := errors.Join(errCount, errIndex); err != nil {
		writeJSON(w, http.StatusBadRequest, problem{err.Error()})
		return
	}
	answer.Want = int(min(count, maxCount))
	begun := time.Now()
	p.poll(w, r, func(f Facts) (done, routed bool) {
		answer.Count, routed = f.Live(answer.Service, answer.Version)
		answer.Index = f.Index(answer.Service)
		answer.Live = answer.Count >= answer.Want && answer.Index >= index
		return answer.Live, routed
	}, func() any {
		answer.WaitedMS = milliseconds(time.Since(begun))
		return answer
	})
}

// poll asks the facts until done, until the wait is over or until the client
// has gone.
func (p *polls) poll(w http.ResponseWriter, r *http.Request, ask func(Facts) (done, routed bool), answer func() any) {
	wait, err := waitOf(r)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, problem{err.Error()})
		return
	}
	// The server's own write deadline is for answers that come at once.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + writeTimeout)); err != nil {
		writeJSON(w, http.StatusInternalServerError, problem{"long polling not supported"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	p.attend(+1)
	defer p.attend(-1)
	for {
		facts, newer := p.watch()
		done, routed := ask(facts)
		if !routed {
			writeJSON(w, http.StatusNotFound, unroutedAnswer{p.name, problem{"service not routed by this load balancer"}})
			return
		}
		if done {
			writeJSON(w, http.StatusOK, answer())
			return
		}
		select {
		case <-newer:
		case <-ctx.Done():
			// Also when the sidecar stops: it claims only what is proven.
			writeJSON(w, http.StatusOK, answer())
			return
		}
	}
}

// waitOf reads ?wait=, a duration as Go writes them.
func waitOf(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return defaultWait, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > maxWait {
		return 0, fmt.Errorf("wait %.40q: want a duration from 0s to %s, such as 30s", text, maxWait)
	}
	return wait, nil
}

// wholeNumber reads a parameter, or gives what it is where it is not said.
func wholeNumber(r *http.Request, name string, unsaid uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return unsaid, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s %.40q: want a whole number, 0 or more", name, text)
	}
	return n, nil
}

func isName(s string) bool { return s != "" && len(s) <= maxName }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
