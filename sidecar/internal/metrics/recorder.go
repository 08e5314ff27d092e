package metrics

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// namespace begins every name.
const namespace = "pointsman"

// Options are what a Recorder needs to know.
type Options struct {
	Version string   // the sidecar's
	Phases  []string // of a server's life, all there are
	// Invariants are the names of what must hold, all there are.
	Invariants []string

	// Health tells how the queries of one service go. It is called at each
	// scrape and must not block.
	Health func(service string) catalog.SourceHealth
	Now    func() time.Time

	// Certificates tells the certificates, and how many problems there are with them.
	// It is called at each scrape and must not block.
	Certificates func() ([]Certificate, int)
}

// Recorder holds the metrics. Its methods are named after what happened; they
// never block and may be called at the same time.
type Recorder struct {
	apply    prometheus.Histogram
	drain    prometheus.Histogram
	commands *prometheus.CounterVec // kind, result
	steps    *prometheus.CounterVec // kind, reason
	reloads  *prometheus.CounterVec // reason, result
	writes   *prometheus.CounterVec // result
	edits    prometheus.Counter
	violated *prometheus.CounterVec // invariant
	ready    prometheus.Gauge
	running  prometheus.Gauge
	workers  prometheus.Gauge
	memory   prometheus.Gauge

	maintenance prometheus.Gauge
	leftOut     prometheus.Gauge
	behind      prometheus.Gauge
	behindFor   prometheus.Gauge

	services *services
	now      func() time.Time

	mu       sync.Mutex
	draining map[[2]string]time.Time // since when, by backend and server
}

// New registers the metrics, and those of the Go runtime and the process, with
// reg. The error is about the options, or reg's about a name that is taken.
func New(reg *prometheus.Registry, o Options) (*Recorder, error) {
	if o.Health == nil || o.Now == nil || o.Certificates == nil || len(o.Phases) == 0 {
		return nil, errors.New("metrics: Health, Now, Certificates and Phases must be set")
	}
	r := &Recorder{
		apply:       applySeconds(),
		drain:       drainSeconds(),
		commands:    counters("commands_total", "Commands sent to HAProxy, by kind and result.", "kind", "result"),
		steps:       counters("steps_total", "Server changes applied in HAProxy, by kind and reason.", "kind", "reason"),
		reloads:     counters("reloads_total", "Reloads of HAProxy, by reason and result.", "reason", "result"),
		writes:      counters("file_writes_total", "Writes of haproxy.cfg, including validation, by result.", "result"),
		edits:       prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "file_drift_corrections_total", Help: "Drift corrections of haproxy.cfg: how often another program had changed it and it was restored."}),
		violated:    counters("invariant_violations_total", "Violations of an invariant, by invariant; each is a defect, see the log.", "invariant"),
		ready:       gauge("ready", "1 while HAProxy answers, has matched Consul at least once, and no change has waited for 10 s; else 0."),
		running:     gauge("haproxy_up", "1 while HAProxy answers, else 0."),
		workers:     gauge("old_workers", "Old HAProxy workers that still have connections after a reload."),
		memory:      gauge("old_workers_memory_bytes", "Resident memory of old HAProxy workers whose processes the sidecar can see."),
		services:    newServices(o),
		leftOut:     gauge("services_rejected", "Services whose new configuration HAProxy rejects, so that haproxy.cfg has the previous one or none."),
		behind:      gauge("behind_changes", "Servers with a change in Consul that HAProxy has still to get."),
		behindFor:   gauge("behind_seconds", "Time that the oldest of these changes waits, in seconds; 0 if there is none."),
		maintenance: gauge("maintenance", "1 while this load balancer is in maintenance, else 0."),
		now:         o.Now,
		draining:    map[[2]string]time.Time{},
	}
	r.startAtZero()
	for _, i := range o.Invariants {
		r.violated.WithLabelValues(i)
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1; the label version has the sidecar's version.",
		ConstLabels: prometheus.Labels{"version": o.Version},
	})
	info.Set(1)
	for _, c := range []prometheus.Collector{
		r.apply, r.drain, r.commands, r.steps, r.reloads, r.writes, r.edits, r.services,
		r.violated, r.ready, r.running, r.maintenance, r.leftOut, r.behind, r.behindFor, r.workers, r.memory, newExpiries(o.Certificates), info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: register: %w", err)
		}
	}
	return r, nil
}

// applySeconds has buckets around what is expected, some milliseconds, and up
// to where a change waits for a reload that is held back.
func applySeconds() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "apply_seconds",
		Help:    "Time from Consul's answer with a change until HAProxy shows it.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	})
}

// drainSeconds has buckets from an idle server to one with long streams.
func drainSeconds() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "drain_seconds",
		Help:    "Drain time of a server, until it had no sessions or drain_timeout ended.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
}
