package metrics

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Certificate is one that HAProxy shows to clients.
type Certificate struct {
	Backend, Name string
	NotAfter      time.Time
}

// expiries tells at each scrape when certificates expire.
type expiries struct {
	expiry, problems *prometheus.Desc
	now              func() ([]Certificate, int)
}

func newExpiries(now func() ([]Certificate, int)) *expiries {
	return &expiries{
		expiry: prometheus.NewDesc(namespace+"_certificate_expiry_timestamp_seconds",
			"Time at which a certificate expires: by backend and name one of certificates.directory, by frontend or backend and path one of a bind line.", []string{"backend", "certificate"}, nil),
		problems: prometheus.NewDesc(namespace+"_certificate_problems",
			"Certificate files of certificates.directory or of bind lines that cannot be used, and directories that are not in step with HAProxy.", nil, nil),
		now: now,
	}
}

// Describe implements prometheus.Collector.
func (e *expiries) Describe(ch chan<- *prometheus.Desc) { ch <- e.expiry; ch <- e.problems }

// Collect implements prometheus.Collector.
func (e *expiries) Collect(ch chan<- prometheus.Metric) {
	all, problems := e.now()
	for _, c := range all {
		if !utf8.ValidString(c.Name) { // the name of a file may be any bytes, a label may not
			c.Name = strconv.Quote(c.Name)
		}
		ch <- prometheus.MustNewConstMetric(e.expiry, prometheus.GaugeValue, float64(c.NotAfter.Unix()), c.Backend, c.Name)
	}
	ch <- prometheus.MustNewConstMetric(e.problems, prometheus.GaugeValue, float64(problems))
}
