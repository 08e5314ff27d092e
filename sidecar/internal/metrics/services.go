package metrics

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// services has the numbers of each service, and makes the series of them at each scrape:
// kept as metrics they take some 4 kB for each service. How old the knowledge of a
// service is grows while nothing happens, and is reckoned then, too.
type services struct {
	age, servers, rejected, beyond, held, damped, paused, drift *prometheus.Desc

	phases []string
	health func(service string) catalog.SourceHealth
	now    func() time.Time
	start  time.Time

	mu  sync.Mutex
	all map[string]*numbers
}

// numbers are those of one service.
type numbers struct {
	servers                        []int // by phase, as services.phases
	rejected, beyond, held, damped int
	isPaused                       bool
	drift                          int // corrections so far
}

func newServices(o Options) *services {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_"+name, help, append([]string{"service"}, labels...), nil)
	}
	return &services{
		age:      desc("consul_last_contact_seconds", "Time since Consul's last successful answer, by service; before the first answer, since the start."),
		servers:  desc("servers", "Servers in HAProxy, by service and phase.", "phase"),
		rejected: desc("instances_rejected", "Instances ignored because their registration is invalid, by service."),
		beyond:   desc("instances_beyond_limit", "Instances ignored because their service has more than `max_instances`, by service."),
		held:     desc("guard_held_servers", "Servers that the guard keeps although Consul reports them lost, by service."),
		damped:   desc("damped_instances", "Passing instances that are suppressed because of flapping, by service."),
		paused:   desc("service_paused", "1 while new requests of the service wait in HAProxy because it is paused, else 0; by service."),
		drift:    desc("drift_corrections_total", "Drift corrections: changes that reverted what another program changed in HAProxy, by service."),
		phases:   o.Phases, health: o.Health, now: o.Now, start: o.Now(),
		all: map[string]*numbers{},
	}
}

// update takes the numbers of all services that there are now; the others go.
func (s *services) update(now []Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]*numbers, len(now))
	for i := range now {
		n := s.all[now[i].Name]
		if n == nil {
			n = &numbers{servers: make([]int, len(s.phases))}
		}
		if !now[i].IsUnchanged {
			n.set(&now[i], s.phases)
		}
		all[now[i].Name] = n
	}
	s.all = all
}

func (n *numbers) set(s *Service, phases []string) {
	for i, phase := range phases {
		n.servers[i] = s.Servers[phase]
	}
	n.rejected, n.beyond, n.held, n.damped, n.isPaused = s.Rejected, s.Beyond, s.Held, s.Damped, s.IsPaused
}

// corrected counts a correction, unless the service has gone meanwhile: its series would
// come back.
func (s *services) corrected(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.all[service]; n != nil {
		n.drift++
	}
}

// Describe implements prometheus.Collector.
func (s *services) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.age, s.servers, s.rejected, s.beyond, s.held, s.damped, s.paused, s.drift} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Who reads the channel may be slow: what it is
// given is copied first.
func (s *services) Collect(ch chan<- prometheus.Metric) {
	type row struct {
		name string
		numbers
	}
	s.mu.Lock()
	rows := make([]row, 0, len(s.all))
	for name, n := range s.all {
		copied := *n
		copied.servers = slices.Clone(n.servers)
		rows = append(rows, row{name, copied})
	}
	s.mu.Unlock()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for _, r := range rows {
		gauge(s.age, s.silence(r.name).Seconds(), r.name)
		for i, phase := range s.phases {
			gauge(s.servers, float64(r.servers[i]), r.name, phase)
		}
		gauge(s.rejected, float64(r.rejected), r.name)
		gauge(s.beyond, float64(r.beyond), r.name)
		gauge(s.held, float64(r.held), r.name)
		gauge(s.damped, float64(r.damped), r.name)
		gauge(s.paused, number(r.isPaused), r.name)
		ch <- prometheus.MustNewConstMetric(s.drift, prometheus.CounterValue, float64(r.drift), r.name)
	}
}

// silence is how long Consul has said nothing about a service.
func (s *services) silence(service string) time.Duration {
	since := s.health(service).Answered
	if since.IsZero() {
		since = s.start
	}
	return s.now().Sub(since)
}
