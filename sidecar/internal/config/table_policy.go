package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// policy is a setting of a service with what it becomes: words of each server's
// line, in haproxy.cfg and behind `add server` alike, lines of the backend, or a
// section beside it. The order of the table is that of the lines: HAProxy asks
// the first rules first.
type policy struct {
	setting[Service]

	server  func(*Service) string
	backend func(*Service) []string
	section func(*Service) string

	onlyHTTP bool   // needs mode http
	needs    string // the key without which it says nothing
}

// servicePolicy is the settings of the table.
func servicePolicy() []setting[Service] {
	var table []setting[Service]
	for _, p := range policies() {
		table = append(table, p.setting)
	}
	return table
}

func policies() []policy {
	return slices.Concat(policyChecks(), policyServers(), policyAgentCheck(), policyUpstream(), policyBackend(), policySticky(), policyAccess(), policyAnswers())
}

// maxWords bounds a list on one line: HAProxy takes 64 words.
const maxWords = 40

func policyChecks() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "check.type", derived: "`http` with a `check.path`, else `tcp`",
				doc: "Protocol of HAProxy's health check: a request (`http`), a connection (`tcp`), PING (`redis`), or the first messages of a login (`pgsql`, `mysql`). TLS and the PROXY protocol of the servers are used for it, too.",
				at:  func(s *Service) value { return checkType{&s.Check.Type} },
			},
			backend: protocolCheck,
		},
		{setting: setting[Service]{
			key: "check.user", derived: "none",
			doc: "User name of the check of `pgsql`, which needs one, or `mysql`. HAProxy sends no password: the check passes when the server answers.",
			at:  func(s *Service) value { return text{&s.Check.User, "word", orEmpty(word)} },
		}},
	}
}

func protocolCheck(s *Service) []string {
	if !s.Check.Enabled {
		return nil
	}
	switch user := unless(s.Check.User == "", " user "+s.Check.User); s.Check.Type {
	case CheckRedis:
		return []string{"option redis-check"}
	case CheckPostgres:
		return []string{"option pgsql-check" + user}
	case CheckMySQL:
		return []string{"option mysql-check" + user}
	}
	return nil // of the template
}

func policyServers() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "slow_start", def: "0s",
				doc: "HAProxy `slowstart`: time in which a server that comes up gets a growing share of traffic. 0s disables it. Not for static balance algorithms. HAProxy does not apply it to the servers it starts with.",
				at:  func(s *Service) value { return span{&s.Policy.SlowStart, 0, haproxyMax} },
			},
			server: func(s *Service) string { return unless(s.Policy.SlowStart == 0, "slowstart "+ms(s.Policy.SlowStart)) },
		},
		{
			setting: setting[Service]{
				key: "max_connections", def: "0",
				doc: "HAProxy `maxconn` of each server: connections at a time; more requests wait in the queue. 0 is no limit. The meta key `maxconn` of an instance overrides it.",
				at:  func(s *Service) value { return number{&s.Policy.MaxConnections, 0, 1_000_000} },
			},
			server: func(s *Service) string {
				return unless(s.Policy.MaxConnections == 0, "maxconn "+strconv.Itoa(s.Policy.MaxConnections))
			},
		},
		{
			setting: setting[Service]{
				key: "max_queue", def: "0",
				doc: "HAProxy `maxqueue` of each server: requests that wait for it, before others go to another server. 0 is no limit.",
				at:  func(s *Service) value { return number{&s.Policy.MaxQueue, 0, 1_000_000} },
			},
			server: func(s *Service) string {
				return unless(s.Policy.MaxQueue == 0, "maxqueue "+strconv.Itoa(s.Policy.MaxQueue))
			},
		},
		{
			setting: setting[Service]{
				key: "outlier.observe", def: "none",
				doc: "HAProxy `observe`: count failed traffic as failures of a server: connections (`layer4`) or also responses of 500 and more (`layer7`, mode http). Needs health checks, which bring the server back.",
				at:  func(s *Service) value { return oneOf(&s.Policy.Outlier.Observe, ObserveNone, Layer4, Layer7) },
			},
			server: func(s *Service) string {
				o := s.Policy.Outlier
				return unless(o.Observe == ObserveNone, fmt.Sprintf("observe %s error-limit %d on-error %s", o.Observe, o.ErrorLimit, o.OnError))
			},
		},
		{needs: "outlier.observe", setting: setting[Service]{
			key: "outlier.error_limit", def: "10",
			doc: "HAProxy `error-limit`: errors in a row that trigger `outlier.on_error`.",
			at:  func(s *Service) value { return number{&s.Policy.Outlier.ErrorLimit, 1, 1_000_000} },
		}},
		{needs: "outlier.observe", setting: setting[Service]{
			key: "outlier.on_error", def: "mark-down",
			doc: "HAProxy `on-error`: take the server down (`mark-down`), count a failed health check (`fail-check`), make the next failed check the last (`sudden-death`), or check more often (`fastinter`).",
			at: func(s *Service) value {
				return oneOf(&s.Policy.Outlier.OnError, "mark-down", "fail-check", "sudden-death", "fastinter")
			},
		}},
	}
}

func policyAgentCheck() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "agent_check.from_meta", def: "false",
				doc: "Let HAProxy's agent check ask each instance at the port that its meta key `pointsman-agent-port` names, as `registrator run --agent-port` writes it. So a leaving instance is out of traffic also when neither sidecar nor Consul works. A new weight from Consul takes a reload then. See [drain](drain.md#beside-a-dead-sidecar-or-a-dead-consul).",
				at:  func(s *Service) value { return yesNo{&s.Policy.AgentCheck.FromMeta} },
			},
			server: func(s *Service) string {
				c := s.Policy.AgentCheck
				return unless(!c.FromMeta, "agent-check agent-inter "+ms(c.Interval)+" agent-port 9") // plan.NoAgentPort, until the instance names one
			},
		},
		{needs: "agent_check.from_meta", setting: setting[Service]{
			key: "agent_check.interval", def: "500ms",
			doc: "HAProxy `agent-inter`: time between two questions. Keep it well below the instances' `leave_wait` (3s).",
			at: func(s *Service) value {
				return span{&s.Policy.AgentCheck.Interval, 100 * time.Millisecond, 10 * time.Second}
			},
		}},
	}
}

func policyUpstream() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "upstream.protocol", def: "h1",
				doc: "HTTP version to the servers, also of health checks: `h1` (HTTP/1.1) or `h2` (HTTP/2, without `upstream.tls` in clear text). Mode http only.",
				at:  func(s *Service) value { return oneOf(&s.Policy.Upstream.Protocol, "h1", "h2") },
			},
			onlyHTTP: true,
			server:   upstreamProtocol,
		},
		{
			setting: setting[Service]{
				key: "upstream.tls", def: "false",
				doc: "Speak TLS to the servers, also in health checks. See [TLS to servers](guides/tls-to-servers.md).",
				at:  func(s *Service) value { return yesNo{&s.Policy.Upstream.TLS} },
			},
			server: upstreamTLS,
		},
		{needs: "upstream.tls", setting: setting[Service]{
			key: "upstream.verify", def: "true",
			doc: "Check that a server's certificate is signed by `upstream.ca_file` and valid for `upstream.sni`. false accepts any certificate.",
			at:  func(s *Service) value { return yesNo{&s.Policy.Upstream.Verify} },
		}},
		{needs: "upstream.tls", setting: setting[Service]{
			key: "upstream.ca_file", derived: "none",
			doc: "PEM file of the authorities that sign the servers' certificates, as HAProxy reads it. A renewed file is loaded by the next reload.",
			at:  func(s *Service) value { return text{&s.Policy.Upstream.CAFile, "path", orEmpty(wordPath)} },
		}},
		{needs: "upstream.tls", setting: setting[Service]{
			key: "upstream.sni", derived: "none",
			doc: "Host name that HAProxy sends in the TLS handshake and expects in the certificate.",
			at:  func(s *Service) value { return text{&s.Policy.Upstream.SNI, "host name", orEmpty(name)} },
		}},
		{needs: "upstream.tls", setting: setting[Service]{
			key: "upstream.cert_file", derived: "none",
			doc: "PEM file of the certificate and key that HAProxy shows to the servers.",
			at:  func(s *Service) value { return text{&s.Policy.Upstream.CertFile, "path", orEmpty(wordPath)} },
		}},
		{
			setting: setting[Service]{
				key: "upstream.proxy_protocol", def: "none",
				doc: "PROXY protocol header to the servers, also in health checks: `none`, `v1` (text) or `v2` (binary).",
				at:  func(s *Service) value { return oneOf(&s.Policy.Upstream.ProxyProtocol, "none", "v1", "v2") },
			},
			server: func(s *Service) string {
				return map[string]string{"v1": "send-proxy", "v2": "send-proxy-v2"}[s.Policy.Upstream.ProxyProtocol]
			},
		},
	}
}

// upstreamProtocol says the version for checks as well: a server at runtime
// derives none.
func upstreamProtocol(s *Service) string {
	u := s.Policy.Upstream
	switch {
	case u.Protocol != "h2":
		return ""
	case u.TLS:
		return "alpn h2 check-alpn h2"
	case s.Check.Enabled && s.Check.Type == CheckHTTP:
		return "proto h2 check-proto h2"
	}
	return "proto h2"
}

func upstreamTLS(s *Service) string {
	u := s.Policy.Upstream
	if !u.TLS {
		return ""
	}
	words := "ssl verify none"
	if u.Verify {
		words = "ssl verify required ca-file " + u.CAFile
	}
	return words + unless(u.SNI == "", " sni str("+u.SNI+") check-sni "+u.SNI) + unless(u.CertFile == "", " crt "+u.CertFile)
}

func policyBackend() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "queue_timeout", derived: "`haproxy.defaults.timeouts.queue`",
				doc: "HAProxy `timeout queue`: longest time that a request waits for a server with a free connection. Then the client gets 503.",
				at:  func(s *Service) value { return span{&s.Policy.QueueTimeout, 0, haproxyMax} },
			},
			backend: func(s *Service) []string {
				return linesUnless(s.Policy.QueueTimeout == 0, "timeout queue "+ms(s.Policy.QueueTimeout))
			},
		},
		{
			setting: setting[Service]{
				key: "retries", def: "3",
				doc: "HAProxy `retries`: how often a failed connection is tried again, and a request under the conditions of `retry_on`. Only requests that may be repeated (GET, HEAD, OPTIONS, PUT, DELETE, TRACE) are sent again.",
				at:  func(s *Service) value { return number{&s.Policy.Retries, 0, 100} },
			},
			backend: func(s *Service) []string {
				return linesUnless(s.Policy.Retries == 3, "retries "+strconv.Itoa(s.Policy.Retries))
			},
		},
	}
}

func policySticky() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "sticky.cookie", derived: "none",
				doc: "Name of a cookie by which a client comes back to the same server. All load balancers understand each other's cookies. Mode http only. See [sticky sessions](guides/sticky-sessions.md).",
				at:  func(s *Service) value { return text{&s.Policy.Sticky.Cookie, "name", orEmpty(name)} },
			},
			onlyHTTP: true,
			backend:  stickyCookieLines,
		},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.key", derived: "made from the backend's name",
			doc: "HAProxy `dynamic-cookie-key`, the same on all load balancers. With a key of your own, clients cannot compute a server's address from a cookie's value.",
			at:  func(s *Service) value { return secret{&s.Policy.Sticky.Key, orEmpty(word)} },
		}},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.secure", def: "false",
			doc: "Mark the cookie `secure`: browsers send it by HTTPS only.",
			at:  func(s *Service) value { return yesNo{&s.Policy.Sticky.Secure} },
		}},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.max_idle", def: "0s",
			doc: "HAProxy `maxidle`: time without a request after which a client's cookie is ignored. 0s is without end.",
			at:  func(s *Service) value { return wholeSeconds(&s.Policy.Sticky.MaxIdle) },
		}},
		{needs: "sticky.cookie", setting: setting[Service]{
			key: "sticky.max_life", def: "0s",
			doc: "HAProxy `maxlife`: age at which a client's cookie is ignored. 0s is without end.",
			at:  func(s *Service) value { return wholeSeconds(&s.Policy.Sticky.MaxLife) },
		}},
		{
			setting: setting[Service]{
				key: "sticky.source", def: "false",
				doc: "A client's address comes back to the same server, on all load balancers. Needs `haproxy.peers.address`. See [sticky sessions](guides/sticky-sessions.md).",
				at:  func(s *Service) value { return yesNo{&s.Policy.Sticky.Source} },
			},
			backend: stickySourceLines,
		},
		{needs: "sticky.source", setting: setting[Service]{
			key: "sticky.clients", def: "100000",
			doc: "Addresses that are remembered at a time, the newest.",
			at:  func(s *Service) value { return number{&s.Policy.Sticky.Clients, 1, 10_000_000} },
		}},
		{needs: "sticky.source", setting: setting[Service]{
			key: "sticky.expire", def: "30m",
			doc: "Time without a request after which an address is forgotten.",
			at:  func(s *Service) value { return span{&s.Policy.Sticky.Expire, time.Second, haproxyMax} },
		}},
	}
}

// PeersName is the section of the load balancers that exchange stick tables.
const PeersName = "pointsman"

// stickySourceLines keep addresses of servers, as names of slots differ between load
// balancers.
func stickySourceLines(s *Service) []string {
	k := s.Policy.Sticky
	if !k.Source {
		return nil
	}
	return []string{fmt.Sprintf("stick-table type ipv6 size %d expire %s srvkey addr peers %s", k.Clients, ms(k.Expire), PeersName), "stick on src"}
}

func stickyCookieLines(s *Service) []string {
	c := s.Policy.Sticky
	if c.Cookie == "" {
		return nil
	}
	key := c.Key.Reveal()
	if key == "" {
		key = "pointsman." + s.Backend
	}
	line := "cookie " + c.Cookie + " insert indirect nocache httponly" + unless(!c.Secure, " secure") +
		unless(c.MaxIdle == 0, " maxidle "+ms(c.MaxIdle)) + unless(c.MaxLife == 0, " maxlife "+ms(c.MaxLife)) + " dynamic"
	return []string{line, "dynamic-cookie-key " + key}
}

func policyAccess() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "allowed_sources", def: "[]",
				doc: "Networks of the clients that may use the service. Others get 403, or in mode tcp no connection. An empty list allows all.",
				at:  func(s *Service) value { return prefixes(&s.Policy.AllowedSources) },
			},
			backend: allowedSources,
		},
		{
			setting: setting[Service]{
				key: "rate_limit.requests", def: "0",
				doc: "Requests, in mode tcp connections, that a client's address may send within `rate_limit.per`. More get 429, or in mode tcp no connection. Refused ones count, too: a client that goes on faster than the limit gets nothing through until it slows down. Counted by each load balancer. 0 is no limit.",
				at:  func(s *Service) value { return number{&s.Policy.RateLimit.Requests, 0, 1_000_000} },
			},
			backend: func(s *Service) []string {
				if s.Policy.RateLimit.Requests == 0 {
					return nil
				}
				table := rateTable(s)
				return []string{fmt.Sprintf("%s if { src_inc_gpc0(%s) gt 0 } { src_gpc0_rate(%s) gt %d }", refuse(s, 429), table, table, s.Policy.RateLimit.Requests)}
			},
			section: func(s *Service) string {
				l := s.Policy.RateLimit
				return unless(l.Requests == 0, fmt.Sprintf("\nbackend %s\n    stick-table type ipv6 size %d expire %s store gpc0,gpc0_rate(%s)\n", rateTable(s), l.Clients, ms(2*l.Per), ms(l.Per)))
			},
		},
		{needs: "rate_limit.requests", setting: setting[Service]{
			key: "rate_limit.per", def: "10s",
			doc: "Period of `rate_limit.requests`.",
			at:  func(s *Service) value { return span{&s.Policy.RateLimit.Per, time.Second, 24 * time.Hour} },
		}},
		{needs: "rate_limit.requests", setting: setting[Service]{
			key: "rate_limit.clients", def: "100000",
			doc: "Addresses that are counted at a time, the newest. Each takes about 150 bytes.",
			at:  func(s *Service) value { return number{&s.Policy.RateLimit.Clients, 1, 10_000_000} },
		}},
		{
			setting: setting[Service]{
				key: "basic_auth.users", def: "[]",
				doc: "Users that may use the service, as `NAME:HASH` with a hash of crypt(3): SHA-256 (`$5$`) or SHA-512 (`$6$`), as `mkpasswd -m sha512crypt` and `openssl passwd -6` print. Others get 401. An empty list asks for no password. Mode http only. HAProxy computes the hash for every request: use `rounds=1000`.",
				at:  func(s *Service) value { return users{&s.Policy.BasicAuth.Users} },
			},
			onlyHTTP: true,
			backend: func(s *Service) []string {
				a := s.Policy.BasicAuth
				realm := a.Realm
				if realm == "" {
					realm = s.Backend
				}
				return linesUnless(len(a.Users) == 0, fmt.Sprintf("http-request auth realm %s unless { http_auth(%s%s) }", realm, UsersPrefix, s.Backend))
			},
			section: func(s *Service) string {
				var all strings.Builder
				for _, u := range s.Policy.BasicAuth.Users {
					user, hash, _ := strings.Cut(u.Reveal(), ":")
					fmt.Fprintf(&all, "    user %s password %s\n", user, hash)
				}
				return unless(all.Len() == 0, "\nuserlist "+UsersPrefix+s.Backend+"\n"+all.String())
			},
		},
		{needs: "basic_auth.users", setting: setting[Service]{
			key: "basic_auth.realm", derived: "`backend`",
			doc: "Realm that browsers show when they ask for a password.",
			at:  func(s *Service) value { return text{&s.Policy.BasicAuth.Realm, "word", orEmpty(word)} },
		}},
	}
}

// The names of the sections of a service's own.
const (
	RatePrefix  = "pointsman.rate."
	UsersPrefix = "pointsman.users."
)

func rateTable(s *Service) string { return RatePrefix + s.Backend }

// refuse begins the rule that refuses a request, in mode tcp the connection.
func refuse(s *Service, status int) string {
	if s.Mode == HTTP {
		return fmt.Sprintf("http-request deny deny_status %d", status)
	}
	return "tcp-request content reject"
}

func allowedSources(s *Service) (lines []string) {
	const acl = "pointsman.allowed"
	for some := range slices.Chunk(s.Policy.AllowedSources, maxWords) {
		lines = append(lines, "acl "+acl+" src "+strings.Join(some, " "))
	}
	if len(lines) > 0 {
		lines = append(lines, refuse(s, 403)+" unless "+acl)
	}
	return lines
}

func policyAnswers() []policy {
	return []policy{
		{
			setting: setting[Service]{
				key: "maintenance_page.enabled", def: "false",
				doc: "Answer every request with 503. Mode http only. Health checks go on.",
				at:  func(s *Service) value { return yesNo{&s.Policy.MaintenancePage.Enabled} },
			},
			onlyHTTP: true,
			backend: func(s *Service) []string {
				return linesUnless(!s.Policy.MaintenancePage.Enabled, "http-request deny deny_status 503")
			},
		},
		{
			setting: setting[Service]{
				key: "maintenance_page.file", derived: "HAProxy's own page",
				doc: "HTML file of the answer 503, also while the service has no server. HAProxy reads it when it starts and reloads. Mode http only.",
				at:  func(s *Service) value { return text{&s.Policy.MaintenancePage.File, "path", orEmpty(wordPath)} },
			},
			onlyHTTP: true,
			backend: func(s *Service) []string {
				return linesUnless(s.Policy.MaintenancePage.File == "", "http-error status 503 content-type text/html file "+s.Policy.MaintenancePage.File)
			},
		},
		{
			setting: setting[Service]{
				key: "compression", def: "[]",
				doc: "Media types of the responses that HAProxy compresses by gzip, such as `[text/html, application/json]`. An empty list compresses none. Mode http only.",
				at: func(s *Service) value {
					return list{p: &s.Policy.Compression, what: "media type, or a list of them", item: mediaType, whole: atMost(maxWords)}
				},
			},
			onlyHTTP: true,
			backend: func(s *Service) []string {
				if len(s.Policy.Compression) == 0 {
					return nil
				}
				return []string{"compression algo gzip", "compression type " + strings.Join(s.Policy.Compression, " ")}
			},
		},
	}
}

// unless gives text, or "" under a condition.
func unless(without bool, text string) string {
	if without {
		return ""
	}
	return text
}

func linesUnless(without bool, line string) []string {
	if without {
		return nil
	}
	return []string{line}
}

// ms writes a time as HAProxy reads it.
func ms(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d.Milliseconds())
}
