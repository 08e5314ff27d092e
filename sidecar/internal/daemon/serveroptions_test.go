package daemon

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/serveroption"
	"github.com/pointsman/pointsman/test/compat"
)

// optionCase is one keyword of a server line in words that give it a meaning.
type optionCase struct {
	keyword string
	options string
	lines   []string // further lines of the backend
	slots   bool     // the servers stay in haproxy.cfg
	balance string   // "" is roundrobin
	weight  int      // of the instances in Consul; 0 is 1
	maxconn string   // of the instances' meta
	agent   string   // the port of an agent check in the instances' meta
	shows   []string // what must be among what HAProxy and the witness show

	isUnchecked, isClosed bool // HAProxy does not check the servers; it lets no request through
	isBackup              bool // by meta

	settings map[string]any // further settings of the service
}

// fact is the case's row of docs/compatibility.md.
func (c optionCase) fact() string {
	if c.settings != nil {
		return "setting " + c.keyword
	}
	return "server option " + c.keyword
}

// optionCases has each keyword that is taken. CERTS, AGENT, ECHO and OTHER stand for a
// directory, for the port of an agent and for that of another witness.
var optionCases = []optionCase{
	{keyword: "addr", options: "addr 127.0.0.1 port OTHER"},
	{keyword: "port", options: "port OTHER"},
	{keyword: "port with ssl", options: "ssl verify none port OTHER"},
	{keyword: "agent-addr", options: "agent-check agent-addr 127.0.0.1 agent-port AGENT agent-inter 200ms", shows: []string{"srv_agent_addr:127.0.0.1"}},
	{keyword: "agent-check", options: "agent-check agent-port AGENT", shows: []string{"srv_agent_port:AGENT", "srv_agent_state:22"}},
	{keyword: "agent-check of half the weight", options: "agent-check agent-port ECHO agent-send 50% agent-inter 200ms", weight: 10, shows: []string{"srv_uweight:5", "srv_iweight:10"}},
	{keyword: "agent-inter", options: "agent-check agent-port AGENT agent-inter 200ms"},
	{keyword: "agent-port", options: "agent-check agent-port AGENT agent-inter 300ms"},
	{keyword: "agent-send", options: "agent-check agent-port ECHO agent-send ready agent-inter 200ms"},
	{keyword: "allow-0rtt", options: "ssl verify none allow-0rtt"},
	{keyword: "alpn", options: "ssl verify none alpn h2 check-alpn http/1.1"},
	{keyword: "ca-file", options: "ssl verify required ca-file CERTS/ca.pem verifyhost server sni str(server) check-sni server"},
	{keyword: "check-alpn", options: "ssl verify none alpn http/1.1 check-alpn http/1.1"},
	{keyword: "check-pool-conn-name", options: "check-reuse-pool check-pool-conn-name one"},
	{keyword: "check-proto", options: "check-proto h2"},
	{keyword: "check-reuse-pool", options: "check-reuse-pool"},
	{keyword: "check-send-proxy", options: "check-send-proxy", shows: []string{"check HTTP/1.1 from=127.0.0.1 proxy=v1", "traffic HTTP/1.1 from=127.0.0.1 proxy=]"}},
	{keyword: "check-sni", options: "ssl verify none check-sni check.test"},
	{keyword: "check-ssl", options: "check-ssl verify none", shows: []string{"check HTTP/1.1 TLS", "traffic HTTP/1.1 from"}},
	{keyword: "check-via-socks4", options: "check-via-socks4"},
	{keyword: "ciphers", options: "ssl verify none ssl-max-ver TLSv1.2 ciphers ECDHE-ECDSA-AES256-GCM-SHA384"},
	{keyword: "ciphersuites", options: "ssl verify none ciphersuites TLS_CHACHA20_POLY1305_SHA256"},
	{keyword: "client-sigalgs", options: "ssl verify none client-sigalgs ECDSA+SHA256"},
	{keyword: "crl-file", options: "ssl verify required ca-file CERTS/ca.pem crl-file CERTS/crl.pem verifyhost server sni str(server) check-sni server"},
	{keyword: "crt", options: "ssl verify none crt CERTS/client-both.pem", shows: []string{"cert=client"}},
	{keyword: "curves", options: "ssl verify none curves P-256"},
	{keyword: "downinter", options: "downinter 200ms"},
	{keyword: "error-limit", options: "observe layer7 error-limit 5 on-error mark-down"},
	{keyword: "fall", options: "fall 2"},
	{keyword: "fastinter", options: "fastinter 200ms"},
	{keyword: "force-sslv3", options: "force-sslv3"},
	{keyword: "force-tlsv10", options: "force-tlsv10"},
	{keyword: "force-tlsv11", options: "force-tlsv11"},
	{keyword: "force-tlsv12", options: "ssl verify none force-tlsv12"},
	{keyword: "force-tlsv13", options: "ssl verify none force-tlsv13"},
	{keyword: "idle-ping", options: "proto h2 idle-ping 10s"},
	{keyword: "init-state", options: "init-state down"},
	{keyword: "inter", options: "inter 150ms"},
	{keyword: "ktls", options: "ssl verify none ktls off"},
	{keyword: "maxconn", options: "maxconn 2", shows: []string{"slim:2"}},
	{keyword: "maxconn with meta", options: "maxconn 2", maxconn: "5", shows: []string{"slim:5"}},
	{keyword: "maxqueue", options: "maxqueue 3", shows: []string{"qlimit:3"}},
	{keyword: "no-check-sni-auto", options: "ssl verify none no-check-sni-auto"},
	{keyword: "no-renegotiate", options: "ssl verify none no-renegotiate"},
	{keyword: "no-sni-auto", options: "ssl verify none no-sni-auto"},
	{keyword: "no-ssl-reuse", options: "ssl verify none no-ssl-reuse"},
	{keyword: "no-sslv3", options: "ssl verify none no-sslv3"},
	{keyword: "no-tls-tickets", options: "ssl verify none no-tls-tickets"},
	{keyword: "no-tlsv10", options: "ssl verify none no-tlsv10"},
	{keyword: "no-tlsv11", options: "ssl verify none no-tlsv11"},
	{keyword: "no-tlsv12", options: "ssl verify none no-tlsv12"},
	{keyword: "no-tlsv13", options: "ssl verify none no-tlsv13"},
	{keyword: "npn", options: "ssl verify none npn http/1.1"},
	{keyword: "observe", options: "observe layer4"},
	{keyword: "on-error", options: "observe layer7 on-error fastinter"},
	{keyword: "on-marked-down", options: "on-marked-down shutdown-sessions"},
	{keyword: "on-marked-up", options: "on-marked-up shutdown-backup-sessions"},
	{keyword: "pool-conn-name", options: "pool-conn-name str(one)"},
	{keyword: "pool-low-conn", options: "pool-low-conn 2"},
	{keyword: "pool-max-conn", options: "pool-max-conn 4"},
	{keyword: "pool-purge-delay", options: "pool-purge-delay 2s"},
	{keyword: "proto", options: "proto h2", shows: []string{"traffic HTTP/2.0"}},
	{keyword: "proxy-v2-options", options: "send-proxy-v2 proxy-v2-options crc32c,unique-id"},
	{keyword: "renegotiate", options: "ssl verify none renegotiate"},
	{keyword: "rise", options: "rise 2"},
	{keyword: "send-proxy", options: "send-proxy", shows: []string{"check HTTP/1.1 from=127.0.0.1 proxy=v1", "traffic HTTP/1.1 from=127.0.0.1 proxy=v1"}},
	{keyword: "send-proxy with ssl", options: "send-proxy ssl verify none", shows: []string{"check HTTP/1.1 TLS", "proxy=v1", "traffic HTTP/1.1 TLS"}},
	{keyword: "send-proxy-v2", options: "send-proxy-v2", shows: []string{"traffic HTTP/1.1 from=127.0.0.1 proxy=v2"}},
	{keyword: "send-proxy-v2-ssl", options: "send-proxy-v2-ssl"},
	{keyword: "send-proxy-v2-ssl-cn", options: "send-proxy-v2-ssl-cn"},
	{keyword: "set-proxy-v2-tlv-fmt", options: "send-proxy-v2 set-proxy-v2-tlv-fmt(0xE1) one"},
	{keyword: "sigalgs", options: "ssl verify none sigalgs ECDSA+SHA256"},
	{keyword: "slowstart", options: "slowstart 1s"},
	{keyword: "sni", options: "ssl verify none no-ssl-reuse sni str(traffic.test)"},
	{keyword: "source", options: "source 127.0.0.2", shows: []string{"traffic HTTP/1.1 from=127.0.0.2", "check HTTP/1.1 from=127.0.0.2"}},
	{keyword: "ssl", options: "ssl verify none", shows: []string{"check HTTP/1.1 TLS", "traffic HTTP/1.1 TLS"}},
	{keyword: "ssl with weights", options: "ssl verify none", weight: 10, shows: []string{"srv_uweight:10"}},
	{keyword: "ssl-max-ver", options: "ssl verify none ssl-max-ver TLSv1.2"},
	{keyword: "ssl-min-ver", options: "ssl verify none ssl-min-ver TLSv1.3"},
	{keyword: "tfo", options: "tfo"},
	{keyword: "tls-tickets", options: "ssl verify none tls-tickets"},
	{keyword: "verify", options: "ssl verify none"},
	{keyword: "verifyhost", options: "ssl verify required ca-file CERTS/ca.pem verifyhost server sni str(server) check-sni server"},
	{keyword: "ws", options: "ws h1"},

	{keyword: "check-sni-auto", options: "ssl verify none check-sni-auto", slots: true},
	{keyword: "cc", options: "cc reno", slots: true},
	{keyword: "max-reuse", options: "max-reuse 3", slots: true},
	{keyword: "no-check-send-proxy", options: "send-proxy no-check-send-proxy", slots: true},
	{keyword: "no-check-ssl", options: "ssl verify none no-check-ssl", slots: true},
	{keyword: "non-stick", options: "non-stick", slots: true},
	{keyword: "sni-auto", options: "ssl verify none sni-auto", slots: true},
	{keyword: "ssl-reuse", options: "ssl verify none ssl-reuse", slots: true},
	{keyword: "stick", options: "stick", slots: true},
	{keyword: "tcp-ut", options: "tcp-ut 5s", slots: true},
	{keyword: "default-server where servers stay in haproxy.cfg", lines: []string{"default-server ssl verify none"}, slots: true},

	{keyword: "balance source with weights", balance: "source", weight: 10, shows: []string{"srv_iweight:10", "srv_uweight:10"}},
	{keyword: "balance static-rr with weights and ssl", balance: "static-rr", options: "ssl verify none", weight: 7, shows: []string{"srv_iweight:7", "check HTTP/1.1 TLS"}},
	{keyword: "a consistent hash with weights", balance: "uri", lines: []string{"hash-type consistent"}, weight: 10, shows: []string{"srv_uweight:10"}},
	{keyword: "an agent under a static balance", balance: "static-rr", options: "agent-check agent-port AGENT agent-inter 200ms", weight: 10},
	{keyword: "a server of the operator's", lines: []string{"server sorry 127.0.0.1:9 backup"}},
	{keyword: "a TCP check of the operator's", lines: []string{"option tcp-check", "tcp-check connect"}, options: "ssl verify none"},
}

// TestServerOptions_EachKeyword_SameServerInFileAndAtRuntime runs a service for
// each keyword, all in one HAProxy. A server that was added to an empty backend
// at runtime, the same server after a reload, and a second one beside it, again
// at runtime and after a reload, must not differ in what HAProxy says of them
// and in how checks and traffic arrive at them.
func TestServerOptions_EachKeyword_SameServerInFileAndAtRuntime(t *testing.T) {
	sameInFileAndAtRuntime(t, optionCases)
}

func sameInFileAndAtRuntime(t *testing.T, cases []optionCase) {
	t.Helper()
	s := newOptionSite(t, cases)
	s.register("one", func(c *optionService) *witness { return c.first })
	runtime := s.look("added at runtime to an empty backend")
	s.haproxy.Reload()
	reloaded := s.look("after a reload")
	s.compare("first", runtime, reloaded)

	s.register("two", func(c *optionService) *witness { return c.second })
	beside := s.look("with a second one, added at runtime")
	s.compare("first, beside another", reloaded, beside)
	s.haproxy.Reload()
	again := s.look("after another reload")
	s.compare("first, after another reload", beside, again)
	for _, c := range s.services {
		value := "same"
		if !c.failed && !beside[c.name].dynamic {
			value = "same, in haproxy.cfg"
		}
		if !c.failed {
			compat.HAProxy(t, c.fact(), value)
		}
	}
	for _, fact := range s.unknown {
		compat.HAProxy(t, fact, "not known to it")
	}
}

// Each keyword that HAProxy takes for a server at runtime is known here: either
// refused by name, or tried by a case.
func TestServerOptions_AddServerHelp_EachKeywordIsTriedOrRefused(t *testing.T) {
	p := haproxytest.Start(t, "backend b\n  balance roundrobin\n")
	help := p.Command("add server help") // 3.2 and newer
	if !strings.Contains(help, "List of keywords") {
		compat.HAProxy(t, "lists the keywords of `add server`", "no")
		return
	}
	compat.HAProxy(t, "lists the keywords of `add server`", "yes")
	tried := map[string]bool{}
	for _, c := range optionCases {
		for word := range strings.FieldsSeq(c.options) {
			tried[strings.TrimSuffix(word, "(0xE1)")] = true
		}
	}
	_, list, _ := strings.Cut(help, "\n") // behind the headline
	for keyword := range strings.FieldsSeq(list) {
		if _, err := serveroption.Parse(keyword+" 1", false); err != nil && strings.Contains(err.Error(), keyword+`" is not supported`) {
			continue
		}
		if !tried[keyword] {
			t.Errorf("%s: neither refused nor tried", keyword)
		}
	}
}
