package config

import (
	"math"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// Config is every setting of one sidecar.
type Config struct {
	File string // the file that was read, or would have been: it need not exist
	Name string // of this load balancer; letters, digits, '-', '_' and '.'

	Consul       Consul
	HAProxy      HAProxy
	Registration Registration
	Addresses    Addresses // of all services' instances
	Services     []Service // as ordered in the file; names, backends and binds are unique
	Frontends    []Frontend
	Discovery    Discovery
	Profiles     []Profile

	// Found is what With has added.
	Found route.Found
	// Gone is the services that were found before, and whose backend HAProxy may still have.
	Gone []Service
	// Taken is the names of the frontends and backends of the operator's own template:
	// no service that is found gets a backend of that name.
	Taken []string

	Reload Reload

	ReconcileInterval time.Duration // how often everything is compared anyway
	FileDelay         time.Duration // how long a write of haproxy.cfg waits for more changes

	API API
	Log Log
}

// Reload bounds how often HAProxy is reloaded.
type Reload struct {
	Debounce      time.Duration // a reload waits until nothing has changed for this time
	MaxDelay      time.Duration // but no longer than this from the first change; Debounce at least
	MinInterval   time.Duration // from the end of one reload to the start of the next
	MaxOldWorkers int           // no reload is started while this number of old workers live
	MaxMemory     int64         // nor while they take so much memory, in bytes; 0 is no limit
}

// Log is the sidecar's own log.
type Log struct {
	Level  string // trace, debug, info, warn or error
	Format LogFormat
}

// LogFormat is how a log line is written.
type LogFormat string

// The formats of log lines.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// haproxyMax bounds HAProxy's times: it counts milliseconds in 31 bits.
const haproxyMax = 24 * 24 * time.Hour

// DefaultFile is read where no other file is named; it need not exist.
const DefaultFile = "/etc/pointsman/sidecar.yaml"

// settings is the table of all settings but those of a service.
func settings() []setting[Config] {
	table := []setting[Config]{
		{
			key: "config", flagged: true, def: DefaultFile, noFile: true,
			doc: "File with these settings. The default file may be missing; a file that is named must exist.",
			at:  func(c *Config) value { return text{&c.File, "path", path} },
		},
		{
			key: "name", flagged: true, restart: true, derived: "host name",
			doc: "Name of this load balancer in Consul, in logs and on the status page.",
			at:  func(c *Config) value { return text{&c.Name, "name", name} },
		},
	}
	return slices.Concat(table, consulConnection(), consulReading(), haproxyProcess(), haproxyGlobal(), haproxyDefaults(), haproxyStats(),
		registrationSettings(), discoverySettings(), addressSettings(), apiSettings(), apiTLSSettings(), ownSettings())
}

// ownSettings are those of the sidecar itself.
func ownSettings() []setting[Config] {
	return []setting[Config]{
		{
			key: "reload.debounce", def: "100ms",
			doc: "Time without further changes before a reload starts. Changes over the runtime socket never wait.",
			at:  func(c *Config) value { return span{&c.Reload.Debounce, 0, time.Minute} },
		},
		{
			key: "reload.max_delay", def: "1s",
			doc: "Longest time that a reload waits while changes keep arriving.",
			at:  func(c *Config) value { return span{&c.Reload.MaxDelay, 0, 10 * time.Minute} },
		},
		{
			key: "reload.min_interval", def: "2s",
			doc: "Shortest time between two reloads.",
			at:  func(c *Config) value { return span{&c.Reload.MinInterval, 0, time.Hour} },
		},
		{
			key: "reload.max_old_workers", def: "3",
			doc: "Number of old workers with connections at which no further reload starts.",
			at:  func(c *Config) value { return number{&c.Reload.MaxOldWorkers, 1, 1000} },
		},
		{
			key: "reload.max_old_workers_memory", def: "0",
			doc: "Resident memory of all old workers at which no further reload starts. Read from `/proc`, where the sidecar sees HAProxy's processes. 0 is no limit.",
			at:  func(c *Config) value { return size{&c.Reload.MaxMemory} },
		},
		{
			key: "reconcile_interval", def: "2s",
			doc: "Time between two comparisons of HAProxy with Consul while nothing changes. On a large fleet, servers are compared less often, up to every 30 s, so that the comparison uses at most 1 % of a processor. A new worker and a maintenance are still noticed at this interval.",
			at:  func(c *Config) value { return span{&c.ReconcileInterval, 100 * time.Millisecond, time.Hour} },
		},
		{
			key: "file_delay", def: "100ms",
			doc: "Time that a write of haproxy.cfg waits for further changes.",
			at:  func(c *Config) value { return span{&c.FileDelay, 0, time.Minute} },
		},
		{
			key: "log.level", flagged: true, restart: true, def: "info",
			doc: "Minimum level of log messages.",
			at:  func(c *Config) value { return oneOf(&c.Log.Level, "trace", "debug", "info", "warn", "error") },
		},
		{
			key: "log.format", flagged: true, restart: true, def: "text",
			doc: "Format of log messages.",
			at:  func(c *Config) value { return oneOf(&c.Log.Format, LogText, LogJSON) },
		},
	}
}

// atLeast is a number without an upper bound.
func atLeast(p *int, low int) value { return number{p, low, math.MaxInt} }
