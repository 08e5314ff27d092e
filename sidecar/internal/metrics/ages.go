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
	desc     *prometheus.Desc
	snapshot *prometheus.Desc
	health   func(service string) catalog.SourceHealth
	now      func() time.Time
	start    time.Time

	mu       sync.Mutex
	services map[string]bool // never changed, but replaced
	written  time.Time       // the snapshot
}

func newAges(o Options) *ages {
	return &ages{
		desc: prometheus.NewDesc(namespace+"_consul_last_contact_seconds",
			"Time since Consul's last successful answer, by service; before the first answer, since the start.",
			[]string{"service"}, nil),
		snapshot: prometheus.NewDesc(namespace+"_snapshot_age_seconds",
			"Time since the snapshot on disk was written; absent where there is none.", nil, nil),
		health: o.Health, now: o.Now, start: o.Now(),
	}
}

func (a *ages) watch(services map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services = services
}

func (a *ages) saved(written time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.written = written
}

// Describe implements prometheus.Collector.
func (a *ages) Describe(ch chan<- *prometheus.Desc) {
	ch <- a.desc
	ch <- a.snapshot
}

// Collect implements prometheus.Collector.
func (a *ages) Collect(ch chan<- prometheus.Metric) {
	a.mu.Lock()
	services, written := a.services, a.written
	a.mu.Unlock()
	if !written.IsZero() {
		ch <- prometheus.MustNewConstMetric(a.snapshot, prometheus.GaugeValue, a.now().Sub(written).Seconds())
	}
	for service := range services {
		since := a.health(service).Answered
		if since.IsZero() {
			since = a.start
		}
		age := a.now().Sub(since).Seconds()
		ch <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, age, service)
	}
}
