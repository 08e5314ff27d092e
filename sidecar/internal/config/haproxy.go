package config

import "time"

// HAProxy is how HAProxy is reached, and what goes into its file apart from
// the services.
type HAProxy struct {
	Socket       string // of the runtime API: a path or host:port
	MasterSocket string // likewise, of the master process; "" is none
	Config       string // path of haproxy.cfg, which the sidecar writes
	BaseConfig   string // path of the operator's own haproxy.cfg, in include mode; else ""
	Template     string // path of the operator's template; "" is the one built in

	// CheckCommand validates a file before it is put in place: the program and
	// its arguments, in which {file} stands for the path. Empty: no check.
	CheckCommand []string
	// ReloadCommand makes HAProxy load its file again. Empty: by MasterSocket.
	ReloadCommand []string

	Timeout       time.Duration // for one exchange on a socket
	ReloadTimeout time.Duration // for one reload, until a new worker serves

	Log string // the words after "log" in the global section; "" is no log

	Global   Global
	Defaults Defaults
	Stats    Stats
	Exporter Exporter
	Health   Health
	Peers    Peers
	Sections []string // lines of whole sections
}

// Global is what goes into haproxy.cfg's global section.
type Global struct {
	// What HAProxy's worker gives up root for; "" leaves the line out.
	User, Group, Chroot string

	MaxConn          int // 0 leaves it to HAProxy
	Threads          int // 0 leaves it to HAProxy
	HardStopAfter    time.Duration
	MaxReloads       int    // a worker older than this number of reloads is ended
	StatsSocketMode  string // octal
	StatsSocketGroup string // "" leaves it to HAProxy
	Extra            []string
}

// Defaults is what goes into haproxy.cfg's defaults section.
type Defaults struct {
	Timeouts Timeouts
	Extra    []string
}

// Timeouts are HAProxy's, in whole milliseconds.
type Timeouts struct {
	Connect       time.Duration
	Client        time.Duration
	Server        time.Duration
	Queue         time.Duration
	HTTPRequest   time.Duration
	HTTPKeepAlive time.Duration
	Tunnel        time.Duration
}

// Peers is how stick tables are exchanged between load balancers.
type Peers struct {
	Address string // IP address and port of this HAProxy; "" is no exchange
}

// Exporter is HAProxy's own Prometheus exporter.
type Exporter struct {
	Bind string // as on a bind line; "" is none
	URI  string
}

// Stats is HAProxy's statistics page.
type Stats struct {
	Bind string // as on a bind line; "" is no page
	URI  string
}
