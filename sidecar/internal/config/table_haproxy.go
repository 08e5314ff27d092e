package config

import "time"

// haproxySettings are those under the key haproxy.
func haproxySettings() []setting[Config] {
	table := haproxyProcess()
	table = append(table, haproxyGlobal()...)
	table = append(table, haproxyDefaults()...)
	return append(table, haproxyStats()...)
}

func haproxyProcess() []setting[Config] {
	return []setting[Config]{
		{
			key: "haproxy.socket", def: "/run/haproxy/admin.sock",
			doc: "The runtime socket, at level admin. It is also what the template binds.",
			at:  func(c *Config) value { return text{&c.HAProxy.Socket, "path or host:port", socket} },
		},
		{
			key: "haproxy.master_socket", def: "/run/haproxy-master.sock",
			doc: "The master process's socket (`haproxy -S`), for reloads and as the second way in. Empty if there is none.",
			at:  func(c *Config) value { return text{&c.HAProxy.MasterSocket, "path or host:port", orEmpty(socket)} },
		},
		{
			key: "haproxy.config", def: "/etc/haproxy/haproxy.cfg",
			doc: "The file that HAProxy is started with. The sidecar writes it.",
			at:  func(c *Config) value { return text{&c.HAProxy.Config, "path", path} },
		},
		{
			key: "haproxy.base_config", derived: "none: the whole haproxy.cfg is the sidecar's",
			doc: "Your own haproxy.cfg, which HAProxy loads before `haproxy.config` (`-f YOURS -f ITS`). With it the sidecar writes backends only: see [keep your haproxy.cfg](include.md).",
			at:  func(c *Config) value { return text{&c.HAProxy.BaseConfig, "path", orEmpty(path)} },
		},
		{
			key: "haproxy.template", derived: "the one built in",
			doc: "A template of that file.",
			at:  func(c *Config) value { return text{&c.HAProxy.Template, "path", orEmpty(path)} },
		},
		{
			key: "haproxy.check_command", def: `[haproxy, -c, -f, "{file}"]`,
			doc: "Checks a file before it is put in place; `{file}` stands for it. Run without a shell. An empty list checks nothing.",
			at: func(c *Config) value {
				return list{p: &c.HAProxy.CheckCommand, what: "list of words", item: command, whole: checkProgram}
			},
		},
		{
			key: "haproxy.reload_command", def: "[]",
			doc: "Reloads HAProxy, in place of the master socket. Run without a shell.",
			at: func(c *Config) value {
				return list{p: &c.HAProxy.ReloadCommand, what: "list of words", item: command, whole: program}
			},
		},
		{
			key: "haproxy.timeout", def: "3s",
			doc: "For one exchange on a socket.",
			at:  func(c *Config) value { return span{&c.HAProxy.Timeout, 10 * time.Millisecond, time.Minute} },
		},
		{
			key: "haproxy.reload_timeout", def: "30s",
			doc: "For one reload, until a new worker serves.",
			at:  func(c *Config) value { return span{&c.HAProxy.ReloadTimeout, 100 * time.Millisecond, time.Hour} },
		},
		{
			key: "haproxy.log", def: "stdout format raw local0",
			doc: "Where HAProxy logs: the words after `log`. Standard output suits containers and systemd; Debian's syslog is `/dev/log local0`. Empty for no log.",
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
			doc: "Connections at once. 0 leaves it to HAProxy.",
			at:  func(c *Config) value { return atLeast(&c.HAProxy.Global.MaxConn, 0) },
		},
		{
			key: "haproxy.global.threads", def: "0",
			doc: "Threads. 0 leaves it to HAProxy: one for each CPU.",
			at:  func(c *Config) value { return number{&c.HAProxy.Global.Threads, 0, 4096} },
		},
		{
			key: "haproxy.global.hard_stop_after", def: "30s",
			doc: "How long a worker may live on after a reload for the sake of its connections.",
			at: func(c *Config) value {
				return span{&c.HAProxy.Global.HardStopAfter, time.Millisecond, haproxyMax}
			},
		},
		{
			key: "haproxy.global.max_reloads", def: "10",
			doc: "A worker that has seen so many reloads is ended.",
			at:  func(c *Config) value { return atLeast(&c.HAProxy.Global.MaxReloads, 1) },
		},
		{
			key: "haproxy.global.stats_socket_mode", def: "660",
			doc: "The file mode of the runtime socket.",
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
			doc: "Further lines of the global section.",
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
		timeout("connect", "1s", "To connect to a server, before the next is tried.",
			func(t *Timeouts) *time.Duration { return &t.Connect }),
		timeout("client", "30s", "Silence of a client.",
			func(t *Timeouts) *time.Duration { return &t.Client }),
		timeout("server", "30s", "Silence of a server.",
			func(t *Timeouts) *time.Duration { return &t.Server }),
		timeout("queue", "5s", "Of a request that waits for a free server.",
			func(t *Timeouts) *time.Duration { return &t.Queue }),
		timeout("http_request", "10s", "For a client to send a request's headers.",
			func(t *Timeouts) *time.Duration { return &t.HTTPRequest }),
		timeout("http_keep_alive", "10s", "Between two requests of a client's connection.",
			func(t *Timeouts) *time.Duration { return &t.HTTPKeepAlive }),
		timeout("tunnel", "1h", "Silence of a WebSocket or another tunnel.",
			func(t *Timeouts) *time.Duration { return &t.Tunnel }),
		{
			key: "haproxy.defaults.extra", def: "[]",
			doc: "Further lines of the defaults section.",
			at:  func(c *Config) value { return extra(&c.HAProxy.Defaults.Extra) },
		},
	}
}

func haproxyStats() []setting[Config] {
	return []setting[Config]{
		{
			key: "haproxy.stats.bind", derived: "no page",
			doc: "Where HAProxy serves its statistics page, such as `127.0.0.1:8404`.",
			at:  func(c *Config) value { return text{&c.HAProxy.Stats.Bind, "bind line", orEmpty(bind)} },
		},
		{
			key: "haproxy.stats.uri", def: "/",
			doc: "The page's path.",
			at:  func(c *Config) value { return text{&c.HAProxy.Stats.URI, "path in a URL", urlPath} },
		},
		{
			key: "haproxy.health.bind", derived: "no answer",
			doc: "Where HAProxy itself answers whether this load balancer takes traffic, such as `*:8405`: 200, or 503 in [maintenance](maintenance.md).",
			at:  func(c *Config) value { return text{&c.HAProxy.Health.Bind, "bind line", orEmpty(bind)} },
		},
		{
			key: "haproxy.health.uri", def: "/",
			doc: "The answer's path.",
			at:  func(c *Config) value { return text{&c.HAProxy.Health.URI, "path in a URL", urlPath} },
		},
	}
}

// extra are an operator's own lines of haproxy.cfg.
func extra(p *[]string) value {
	return list{p: p, what: "list of lines, or a text of lines", item: extraLine, block: true}
}
