package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// ages tells at each scrape how old the knowledge of each service is. It is
// reckoned then because it grows while nothing happens.
type ages struct {
	desc   *prometheus.Desc
	health func(service string) catalog.SourceHealth
	now    func() time.Time
	start  time.Time

	mu       sync.Mutex
	services map[string]bool // never changed, but replaced
}

func newAges(o Options) *ages {
	return &ages{
		desc: prometheus.NewDesc(namespace+"_consul_last_contact_seconds",
			"Time since Consul's last successful answer, by service; before the first answer, since the start.",
			[]string{"service"}, nil),
		health: o.Health, now: o.Now, start: o.Now(),
	}
}

func (a *ages) watch(services map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services = services
}

// Describe implements prometheus.Collector.
func (a *ages) Describe(ch chan<- *prometheus.Desc) {
	ch <- a.desc
}

// Collect implements prometheus.Collector.
func (a *ages) Collect(ch chan<- prometheus.Metric) {
	a.mu.Lock()
	services := a.services
	a.mu.Unlock()
	for service := range services {
		since := a.health(service).Answered
		if since.IsZero() {
			since = a.start
		}
		age := a.now().Sub(since).Seconds()
		ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, age, service)
	}
}
