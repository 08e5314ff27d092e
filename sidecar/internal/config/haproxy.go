package config

import (
	"time"
)

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
	Stats    Endpoint // the statistics page
	Exporter Endpoint // the Prometheus exporter
	Health   Endpoint // whether this load balancer takes traffic
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

// Endpoint is where HAProxy itself answers.
type Endpoint struct {
	Bind string // as on a bind line; "" is nowhere
	URI  string
}

// haproxyProcess, haproxyGlobal, haproxyDefaults and haproxyStats are the settings under the
// key haproxy.
func haproxyProcess() []setting[Config] {
	return []setting[Config]{
		{
			key: "haproxy.socket", flagged: true, restart: true, def: "/run/haproxy/admin.sock",
			doc: "Runtime socket, at level admin. The template binds it.",
			at:  func(c *Config) value { return text{&c.HAProxy.Socket, "path or host:port", socket} },
		},
		{
			key: "haproxy.master_socket", flagged: true, restart: true, def: "/run/haproxy-master.sock",
			doc: "Master socket (`haproxy -S`), for reloads and as a fallback for the runtime socket. Empty if there is none.",
			at:  func(c *Config) value { return text{&c.HAProxy.MasterSocket, "path or host:port", orEmpty(socket)} },
		},
		{
			key: "haproxy.config", flagged: true, restart: true, def: "/etc/haproxy/haproxy.cfg",
			doc: "Configuration file that HAProxy starts with. The sidecar writes it.",
			at:  func(c *Config) value { return text{&c.HAProxy.Config, "path", path} },
		},
		{
			key: "haproxy.base_config", restart: true, derived: "none: the whole haproxy.cfg is the sidecar's",
			doc: "Your own haproxy.cfg, which HAProxy loads before `haproxy.config` (`-f YOURS -f ITS`). With it the sidecar writes backends only: see [keep your haproxy.cfg](include.md).",
			at:  func(c *Config) value { return text{&c.HAProxy.BaseConfig, "path", orEmpty(path)} },
		},
		{
			key: "haproxy.template", flagged: true, derived: "built-in template",
			doc: "Template of haproxy.cfg.",
			at:  func(c *Config) value { return text{&c.HAProxy.Template, "path", orEmpty(path)} },
		},
		{
			key: "haproxy.check_command", restart: true, def: `[haproxy, -c, -f, "{file}"]`,
			doc: "Command that validates a configuration file before it replaces haproxy.cfg; `{file}` is its path. Run without a shell. An empty list disables validation.",
			at: func(c *Config) value {
				return list{p: &c.HAProxy.CheckCommand, what: "list of words", item: someLine, whole: checkProgram}
			},
		},
		{
			key: "haproxy.reload_command", restart: true, def: "[]",
			doc: "Command that reloads HAProxy, instead of the master socket. Run without a shell.",
			at: func(c *Config) value {
				return list{p: &c.HAProxy.ReloadCommand, what: "list of words", item: someLine, whole: program}
			},
		},
		{
			key: "haproxy.timeout", restart: true, def: "3s",
			doc: "Timeout of one exchange on a HAProxy socket.",
			at:  func(c *Config) value { return span{&c.HAProxy.Timeout, 10 * time.Millisecond, time.Minute} },
		},
		{
			key: "haproxy.reload_timeout", restart: true, def: "30s",
			doc: "Timeout of one reload, until a new worker serves.",
			at:  func(c *Config) value { return span{&c.HAProxy.ReloadTimeout, 100 * time.Millisecond, time.Hour} },
		},
		{
			key: "haproxy.log", def: "stdout format raw local0",
			doc: "HAProxy's `log` target: the words after `log`. Standard output suits containers and systemd; Debian's syslog is `/dev/log local0`. Empty disables the log.",
			at:  func(c *Config) value { return text{&c.HAProxy.Log, "words", orEmpty(plainWords)} },
		},
	}
}

func haproxyGlobal() []setting[Config] {
	return []setting[Config]{
		{
			key: "haproxy.global.user", def: "haproxy",
			doc: "The user that HAProxy's worker becomes when it is started as root. Empty for a HAProxy that is not started as root: see [users and rights](users.md).",
			at:  func(c *Config) value { return text{&c.HAProxy.Global.User, "name", orEmpty(word)} },
		},
		{
			key: "haproxy.global.group", def: "haproxy",
			doc: "The group that HAProxy's worker changes to. Empty for a HAProxy that is not started as root.",
			at:  func(c *Config) value { return text{&c.HAProxy.Global.Group, "name", orEmpty(word)} },
		},
		{
			key: "haproxy.global.chroot", def: "/var/lib/haproxy",
			doc: "The directory that HAProxy's worker is confined to. Empty for a HAProxy that is not started as root: it would end at its start, and `haproxy -c` does not show that.",
			at:  func(c *Config) value { return text{&c.HAProxy.Global.Chroot, "path", orEmpty(word)} },
		},
		{
			key: "haproxy.global.maxconn", def: "0",
			doc: "HAProxy `maxconn` of the global section. 0 uses HAProxy's default.",
			at:  func(c *Config) value { return atLeast(&c.HAProxy.Global.MaxConn, 0) },
		},
		{
			key: "haproxy.global.threads", def: "0",
			doc: "HAProxy `nbthread`. 0 uses HAProxy's default, one thread for each CPU.",
			at:  func(c *Config) value { return number{&c.HAProxy.Global.Threads, 0, 4096} },
		},
		{
			key: "haproxy.global.hard_stop_after", def: "30s",
			doc: "HAProxy `hard-stop-after`: longest time that an old worker keeps its connections after a reload.",
			at: func(c *Config) value {
				return span{&c.HAProxy.Global.HardStopAfter, time.Millisecond, haproxyMax}
			},
		},
		{
			key: "haproxy.global.max_reloads", def: "10",
			doc: "HAProxy `mworker-max-reloads`: number of reloads after which an old worker is stopped.",
			at:  func(c *Config) value { return atLeast(&c.HAProxy.Global.MaxReloads, 1) },
		},
		{
			key: "haproxy.global.stats_socket_mode", def: "660",
			doc: "File mode of the runtime socket.",
			at: func(c *Config) value {
				return text{&c.HAProxy.Global.StatsSocketMode, "octal number", octalMode}
			},
		},
		{
			key: "haproxy.global.stats_socket_group", def: "haproxy",
			doc: "The group of the runtime socket: the sidecar's user must be in it. Empty for the group that HAProxy is started with.",
			at: func(c *Config) value {
				return text{&c.HAProxy.Global.StatsSocketGroup, "name", orEmpty(word)}
			},
		},
		{
			key: "haproxy.global.extra", def: "[]",
			doc: "Additional lines of the global section.",
			at:  func(c *Config) value { return extra(&c.HAProxy.Global.Extra) },
		},
	}
}

func haproxyDefaults() []setting[Config] {
	timeout := func(key, def, doc string, p func(*Timeouts) *time.Duration) setting[Config] {
		return setting[Config]{
			key: "haproxy.defaults.timeouts." + key, def: def, doc: doc,
			at: func(c *Config) value {
				return span{p(&c.HAProxy.Defaults.Timeouts), time.Millisecond, haproxyMax}
			},
		}
	}
	return []setting[Config]{
		timeout("connect", "1s", "HAProxy `timeout connect`.",
			func(t *Timeouts) *time.Duration { return &t.Connect }),
		timeout("client", "30s", "HAProxy `timeout client`.",
			func(t *Timeouts) *time.Duration { return &t.Client }),
		timeout("server", "30s", "HAProxy `timeout server`.",
			func(t *Timeouts) *time.Duration { return &t.Server }),
		timeout("queue", "5s", "HAProxy `timeout queue`.",
			func(t *Timeouts) *time.Duration { return &t.Queue }),
		timeout("http_request", "10s", "HAProxy `timeout http-request`.",
			func(t *Timeouts) *time.Duration { return &t.HTTPRequest }),
		timeout("http_keep_alive", "10s", "HAProxy `timeout http-keep-alive`.",
			func(t *Timeouts) *time.Duration { return &t.HTTPKeepAlive }),
		timeout("tunnel", "1h", "HAProxy `timeout tunnel`, for WebSockets and other tunnels.",
			func(t *Timeouts) *time.Duration { return &t.Tunnel }),
		{
			key: "haproxy.defaults.extra", def: "[]",
			doc: "Additional lines of the defaults section.",
			at:  func(c *Config) value { return extra(&c.HAProxy.Defaults.Extra) },
		},
	}
}

func haproxyStats() []setting[Config] {
	return []setting[Config]{
		{
			key: "haproxy.stats.bind", derived: "no page",
			doc: "Bind address of HAProxy's statistics page, such as `127.0.0.1:8404`.",
			at:  func(c *Config) value { return text{&c.HAProxy.Stats.Bind, "bind line", orEmpty(bind)} },
		},
		{
			key: "haproxy.stats.uri", def: "/",
			doc: "Path of HAProxy's statistics page.",
			at:  func(c *Config) value { return text{&c.HAProxy.Stats.URI, "path in a URL", urlPath} },
		},
		{
			key: "haproxy.exporter.bind", derived: "no exporter",
			doc: "Bind address of HAProxy's own Prometheus exporter, such as `127.0.0.1:8406`. HAProxy must be built with it: `haproxy -vv` lists the service `prometheus-exporter`.",
			at:  func(c *Config) value { return text{&c.HAProxy.Exporter.Bind, "bind line", orEmpty(bind)} },
		},
		{
			key: "haproxy.exporter.uri", def: "/metrics",
			doc: "Path of HAProxy's Prometheus exporter.",
			at:  func(c *Config) value { return text{&c.HAProxy.Exporter.URI, "path in a URL", urlPath} },
		},
		{
			key: "haproxy.health.bind", derived: "no answer",
			doc: "Bind address of HAProxy's health answer, such as `*:8405`: 200 if this load balancer takes traffic, 503 in [maintenance](maintenance.md).",
			at:  func(c *Config) value { return text{&c.HAProxy.Health.Bind, "bind line", orEmpty(bind)} },
		},
		{
			key: "haproxy.health.uri", def: "/",
			doc: "Path of HAProxy's health answer.",
			at:  func(c *Config) value { return text{&c.HAProxy.Health.URI, "path in a URL", urlPath} },
		},
		{
			key: "haproxy.sections", def: "[]",
			doc: "Whole sections of haproxy.cfg, with their first lines: `peers`, `userlist`, `resolvers`, `mailers`, `cache`, `http-errors`, `ring`, `log-forward`, `fcgi-app`, `crt-store`, `log-profile`, `acme` or `traces`. An error of HAProxy about one names the line here.",
			at: func(c *Config) value {
				return list{p: &c.HAProxy.Sections, what: "list of lines, or a text of lines", item: oneLine, whole: wholeSections, block: true}
			},
		},
		{
			key: "haproxy.peers.address", restart: true, derived: "no exchange",
			doc: "Address at which the other load balancers' HAProxy reaches this one to exchange stick tables, such as `10.0.0.5:10000`. HAProxy listens there. The sidecars find each other's in Consul. See [sticky sessions](guides/sticky-sessions.md).",
			at: func(c *Config) value {
				return text{&c.HAProxy.Peers.Address, "IP address and port", orEmpty(peerAddress)}
			},
		},
	}
}

// extra are an operator's own lines of haproxy.cfg.
func extra(p *[]string) value {
	return list{p: p, what: "list of lines, or a text of lines", item: extraLine, block: true}
}
