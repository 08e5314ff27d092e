package config

import (
	"fmt"
	"strconv"
	"time"
)

// AgentCheck is how HAProxy hears from an instance itself that it leaves.
type AgentCheck struct {
	FromMeta bool // ask at the port that an instance's meta names
	Interval time.Duration
}

// Outlier is how HAProxy judges a server by the traffic itself.
type Outlier struct {
	Observe    Observed
	ErrorLimit int // errors in a row
	OnError    string
}

// Observed is what is judged.
type Observed string

// What can be observed.
const (
	ObserveNone Observed = "none"
	Layer4      Observed = "layer4"
	Layer7      Observed = "layer7"
)

// Upstream is how HAProxy speaks to the servers, and their checks.
type Upstream struct {
	Protocol      string // h1 or h2
	TLS           bool
	Verify        bool // the certificate's signer and name
	CAFile        string
	SNI           string
	CertFile      string // certificate and key that HAProxy shows; "" is none
	ProxyProtocol string // none, v1 or v2
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
				doc: "Let HAProxy's agent check ask each instance at the port that its meta key `pointsman-agent-port` names, as `registrator run --agent-port` writes it. So a leaving instance is out of traffic also when neither sidecar nor Consul works. A new weight from Consul takes a reload then. See [drain](drain.md#when-the-sidecar-or-consul-is-unavailable).",
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
		words = "ssl verify required" + unless(u.CAFile == "", " ca-file "+u.CAFile)
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
