package config

import (
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
