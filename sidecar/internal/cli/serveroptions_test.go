package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/sidecar/internal/serveroption"
	"github.com/pointsman/pointsman/test/certtest"
	"github.com/pointsman/pointsman/test/compat"
	"github.com/pointsman/pointsman/test/proctest"
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
	shows   []string // what must be among what HAProxy and the witness show

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
	{keyword: "agent-addr", options: "agent-check agent-addr 127.0.0.1 agent-port AGENT agent-inter 200ms"},
	{keyword: "agent-check", options: "agent-check agent-port AGENT"},
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

// optionSite is a sidecar between a Consul and a real HAProxy, with a service
// for each case.
type optionSite struct {
	t        *testing.T
	dir      string
	certs    *certtest.Authority
	consul   *consultest.Fake
	haproxy  *haproxytest.Process
	agent    *reconcile.Agent
	log      proctest.Output
	services []*optionService
	unknown  []string // facts of keywords that this HAProxy does not know
	other    *witness
}

type optionService struct {
	optionCase
	name          string
	first, second *witness
	failed        bool
}

func newOptionSite(t *testing.T, cases []optionCase) *optionSite {
	t.Helper()
	s := &optionSite{t: t, dir: t.TempDir(), certs: certtest.New(t), consul: consultest.NewFake(t)}
	s.certs.Sign("server")
	s.certs.Sign("client")
	s.certs.Write("client-both.pem", append(s.certs.Read("client.pem"), s.certs.Read("client-key.pem")...))
	s.certs.RevokeNone("crl.pem")
	s.other = newWitness(t, s.certs)
	replace := strings.NewReplacer("CERTS", filepath.Dir(s.certs.Path("x")), "AGENT", startAgent(t, false), "ECHO", startAgent(t, true), "OTHER", strconv.Itoa(int(s.other.addr().Port())), "MYSQL", startMySQL(t))
	for i, c := range cases {
		c.options = replace.Replace(c.options)
		c.settings = replaceIn(c.settings, replace)
		s.services = append(s.services, &optionService{optionCase: c, name: fmt.Sprintf("s%d", i), first: newWitness(t, s.certs), second: newWitness(t, s.certs)})
	}
	s.haproxy = haproxytest.Prepare(t, haproxytest.Options{Raw: true}, "")
	s.leaveOutUnknown()
	s.start()
	return s
}

// settings is the settings file.
func (s *optionSite) settings() []byte {
	var services []map[string]any
	for _, c := range s.services {
		service := map[string]any{
			"name": c.name, "bind": s.socket(c), "server_options": c.options, "backend_extra": append([]string{"http-send-name-header X-Server"}, c.lines...),
			"check": map[string]any{"path": checkPath, "inter": "300ms", "fast_inter": "100ms", "down_inter": "100ms", "rise": 1, "fall": 3},
			"slots": map[string]any{"force": c.slots, "min": 2, "spare": 1},
		}
		if c.balance != "" {
			service["balance"] = c.balance
		}
		merge(service, c.settings)
		services = append(services, service)
	}
	file, err := json.Marshal(map[string]any{
		"name": "lb0", "services": services, "file_delay": "10ms", "addresses": map[string]any{"allow": "127.0.0.0/8"}, // n1 is another machine
		"reload": map[string]any{"debounce": "10ms", "max_delay": "100ms", "min_interval": "0s"},
		"consul": map[string]any{"address": s.consul.Address()}, "api": map[string]any{"address": "127.0.0.1:0"},
		"haproxy": map[string]any{
			"socket": s.haproxy.Runtime(), "master_socket": s.haproxy.Master(), "config": s.haproxy.ConfigFile(),
			"check_command": []string{haproxytest.Binary(s.t), "-c", "-f", "{file}"},
			"global":        map[string]any{"user": "", "group": "", "chroot": "", "stats_socket_group": "", "extra": []string{"ssl-default-server-options ssl-min-ver TLSv1.0"}},
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return file
}

// merge puts the settings of a case over those of all.
func merge(to, from map[string]any) {
	for key, value := range from {
		section, isSection := value.(map[string]any)
		if below, ok := to[key].(map[string]any); ok && isSection {
			merge(below, section)
			continue
		}
		to[key] = value
	}
}

// replaceIn gives settings with what the names of files stand for.
func replaceIn(settings map[string]any, replace *strings.Replacer) map[string]any {
	if settings == nil {
		return nil
	}
	out := map[string]any{}
	for key, value := range settings {
		switch v := value.(type) {
		case string:
			value = replace.Replace(v)
		case map[string]any:
			value = replaceIn(v, replace)
		}
		out[key] = value
	}
	return out
}

func (s *optionSite) socket(c *optionService) string { return filepath.Join(s.haproxy.Dir(), c.name) }

func (s *optionSite) load() (config.Config, error) {
	return config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return s.settings(), nil }})
}

var alertLine = regexp.MustCompile(`\[[^\]]*haproxy.cfg:(\d+)\].*`)

// leaveOutUnknown drops the services whose keyword this HAProxy does not know,
// or was not built for.
func (s *optionSite) leaveOutUnknown() {
	for range len(s.services) + 1 {
		cfg, err := s.load()
		if err != nil {
			s.t.Fatal(err)
		}
		r, err := newRenderer(cfg)
		if err != nil {
			s.t.Fatal(err)
		}
		content, err := r.Render(s.oneServerEach())
		if err != nil {
			s.t.Fatal(err)
		}
		s.haproxy.WriteConfig(string(content))
		output, valid := s.haproxy.Check()
		if valid {
			return
		}
		m := alertLine.FindStringSubmatch(output)
		if m == nil {
			s.t.Fatalf("HAProxy rejects the file:\n%s", output)
		}
		n, _ := strconv.Atoi(m[1])
		backend := ""
		for i, line := range strings.Split(string(content), "\n")[:n] {
			if words := strings.Fields(line); i < n && len(words) > 1 && words[0] == "backend" {
				backend = words[1]
			}
		}
		i := slices.IndexFunc(s.services, func(c *optionService) bool { return c.name == backend })
		if i < 0 {
			s.t.Fatalf("line %d is none of a service:\n%s", n, output)
		}
		s.t.Logf("%s: %s", s.services[i].keyword, m[0])
		s.unknown = append(s.unknown, s.services[i].fact())
		s.services = slices.Delete(s.services, i, i+1)
	}
}

// oneServerEach is a model of the file in which each backend has a server.
func (s *optionSite) oneServerEach() (backends []plan.FileBackend) {
	for _, c := range s.services {
		backends = append(backends, plan.FileBackend{Service: c.name, Backend: c.name, Known: true, Servers: []plan.FileServer{{Name: "one", Addr: c.first.addr(), Weight: 1}}})
	}
	return backends
}

func (s *optionSite) start() {
	cfg, err := s.load()
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := newDaemon(cfg, Env{Stderr: &s.log, Version: "test"}, false, s.load)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Remove(s.haproxy.ConfigFile()); err != nil {
		s.t.Fatal(err)
	}
	s.agent = d.agent
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
		if s.t.Failed() {
			s.t.Logf("the sidecar's log:\n%.20000s", s.log.String())
		}
	})
	haproxytest.Until(s.t, "the file is there", func() bool { return d.agent.State().File.Current })
	s.haproxy.Launch()
	s.settled("all is as Consul says")
}

// settled waits until the sidecar has nothing left to do.
func (s *optionSite) settled(fact string) {
	s.t.Helper()
	haproxytest.Until(s.t, fact, func() bool {
		state := s.agent.State()
		return state.Ready && state.File.Current && !state.File.Pending && state.Reloads.Pending == ""
	})
}

func (s *optionSite) register(id string, at func(*optionService) *witness) {
	s.t.Helper()
	for _, c := range s.services {
		meta := map[string]string{}
		if c.maxconn != "" {
			meta["maxconn"] = c.maxconn
		}
		s.registerOne(c, id, at(c), meta)
	}
}

// registerOne registers an instance of a service, or changes it.
func (s *optionSite) registerOne(c *optionService, id string, w *witness, meta map[string]string) {
	s.t.Helper()
	client, err := api.NewClient(&api.Config{Address: s.consul.Address(), Scheme: "http"})
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = client.Catalog().Register(&api.CatalogRegistration{Node: "n1", Address: "127.0.0.1", Service: &api.AgentService{
		ID: c.name + "-" + id, Service: c.name, Address: "127.0.0.1", Port: int(w.addr().Port()), Meta: meta,
		Weights: api.AgentWeights{Passing: max(1, c.weight), Warning: 1},
	}}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
}

// serverLook is what there is to see of one server.
type serverLook struct {
	HAProxy  map[string]string // columns of `show servers state` and `show stat`
	Arrivals []string          // at the witness: checks and traffic
	dynamic  bool              // it is no slot
}

// volatile are columns that tell of the moment, of the past or of the name.
var volatile = regexp.MustCompile(`^(be_id|be_name|srv_id|srv_name|srv_addr|srv_port|srv_admin_state|srv_time_since_last_change|srv_check_health|srv_f_forced_id|srv_check_status|srv_check_result|srv_op_state|.*cur|.*max|.*tot|bin|bout|rate|lastchg|downtime|last_.*|check_duration|check_code|agent_duration|agent_code|lastsess|.?time|iid|sid|pid|svname|addr|chkfail|chkdown|hanafail|hrsp_.*|cli_abrt|srv_abrt|wretr|wredis|econ|eresp|lbtot|.*time_max|reuse|connect|need_conn_est|srv_icur|idle_conn_cur|safe_conn_cur|used_conn_cur|.*_bytes.*|agg_.*|check_desc|agent_desc|act|.*sess.*|eint|cache_.*|h1.*|h2.*|h3.*|quic.*|http_.*|ssl_.*|intercepted|dcon|dses|comp_.*|status|-|req_.*|req(bin|bout)|res(bin|bout)|throttle|src_ilim|desc|guid)$`)

// look waits until all servers are up and each has had checks and traffic, and
// gives what is to be seen of the first server of each service.
func (s *optionSite) look(when string) map[string]serverLook {
	s.t.Helper()
	s.settled(when)
	out := map[string]serverLook{}
	for _, c := range s.services {
		if c.failed {
			continue
		}
		var columns map[string]string
		up := func() bool {
			columns = s.columns(c.name, c.first.addr())
			// An answer of the agent that came too late, on a busy machine, is followed by
			// another one.
			answer := columns["agent_status"]
			agentAsked := columns["srv_agent_state"] == "0" || columns["srv_agent_state"] == "22" && answer != "INI" && !strings.HasSuffix(answer, "TOUT")
			return strings.HasPrefix(columns["status"], "UP") && columns["srv_check_state"] == "6" && strings.HasSuffix(columns["check_status"], "OK") && agentAsked
		}
		for deadline := time.Now().Add(5 * time.Second); !up(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				c.failed = true
				s.t.Errorf("%s (%s) is not up %s: status %q, check %s %q, agent state %s", c.keyword, c.options, when, columns["status"], columns["check_status"], columns["last_chk"], columns["srv_agent_state"])
				break
			}
		}
		if c.failed {
			continue
		}
		if strings.Contains(c.keyword, "half the weight") {
			s.haproxy.Until("its agent halves the weight "+when, func() bool { columns = s.columns(c.name, c.first.addr()); return columns["srv_uweight"] == "5" })
		}
		c.first.reset()
		s.traffic(c)
		wanted := 2
		if strings.Contains(c.options, "port ") && !strings.Contains(c.options, "agent") || slices.Contains(c.lines, "option tcp-check") || c.keyword == "check.type tcp" {
			wanted = 1 // its checks go elsewhere, or do not ask
		}
		haproxytest.Until(s.t, c.keyword+" has had checks "+when, func() bool { return len(c.first.arrivals()) >= wanted })
		look := serverLook{HAProxy: map[string]string{}, Arrivals: c.first.arrivals(), dynamic: !strings.HasPrefix(columns["srv_name"], "slot-")}
		for name, value := range columns {
			if !volatile.MatchString(name) {
				look.HAProxy[name] = value
			}
		}
		for _, part := range c.shows {
			if all := fmt.Sprint(look.HAProxy, look.Arrivals); !strings.Contains(all, part) {
				c.failed = true
				s.t.Errorf("%s (%s), %s: no %q in %s", c.keyword, c.options, when, part, all)
			}
		}
		if c.settings["sticky"] != nil && look.HAProxy["cookie"] == "" {
			c.failed = true
			s.t.Errorf("%s, %s: the server has no cookie", c.keyword, when)
		}
		out[c.name] = look
	}
	return out
}

// columns is what HAProxy shows of the server at an address, by column, as between
// two checks.
func (s *optionSite) columns(backend string, at netip.AddrPort) map[string]string {
	out := map[string]string{}
	defer func() {
		for _, check := range []string{"check_status", "agent_status"} {
			out[check] = strings.TrimPrefix(out[check], "* ") // the next one is under way
		}
		out["srv_agent_state"] = strings.Replace(out["srv_agent_state"], "23", "22", 1)
		out["srv_check_state"] = strings.Replace(out["srv_check_state"], "7", "6", 1)
	}()
	state := strings.Split(s.haproxy.Command("show servers state "+backend), "\n")
	names := strings.Fields(strings.TrimPrefix(state[1], "# "))
	for _, row := range state[2:] {
		fields := strings.Fields(row)
		one := map[string]string{}
		for i := range fields {
			one[names[i]] = fields[i]
		}
		if one["srv_addr"]+":"+one["srv_port"] == at.String() {
			maps.Copy(out, one)
		}
	}
	stat := strings.Split(s.haproxy.Command("show stat "+backend+" 4 -1"), "\n")
	names = strings.Split(strings.TrimPrefix(stat[0], "# "), ",")
	for _, row := range stat[1:] {
		fields := strings.Split(row, ",")
		if len(fields) < 2 || fields[1] != out["srv_name"] {
			continue
		}
		for i := range names {
			if names[i] != "" && i < len(fields) {
				out[names[i]] = fields[i]
			}
		}
	}
	return out
}

// client speaks to HAProxy as a client of the service, a connection for each
// request.
func (s *optionSite) client(c *optionService) *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.socket(c))
		},
	}}
}

// traffic sends requests until the first server has had one.
func (s *optionSite) traffic(c *optionService) {
	s.t.Helper()
	client := s.client(c)
	for n := range 200 {
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, fmt.Sprintf("http://api.test/%d", n), http.NoBody)
		if err != nil {
			s.t.Fatal(err)
		}
		reply, err := client.Do(req)
		if err != nil {
			s.t.Errorf("%s: %v", c.keyword, err)
			return
		}
		_, _ = io.Copy(io.Discard, reply.Body)
		_ = reply.Body.Close()
		if reply.StatusCode != http.StatusOK {
			s.t.Errorf("%s: got %s", c.keyword, reply.Status)
			return
		}
		if slices.ContainsFunc(c.first.arrivals(), func(a string) bool { return strings.HasPrefix(a, "traffic") }) {
			return
		}
	}
	if c.balance == "" {
		s.t.Errorf("%s: no request came to the first server", c.keyword)
	}
}

func (s *optionSite) compare(what string, before, after map[string]serverLook) {
	s.t.Helper()
	for _, c := range s.services {
		if c.failed {
			continue
		}
		if c.balance == "source" || c.balance == "uri" { // the hash decides who has traffic
			x, y := before[c.name], after[c.name]
			x.Arrivals, y.Arrivals = nil, nil
			before[c.name], after[c.name] = x, y
		}
		if diff := cmp.Diff(before[c.name], after[c.name], cmp.AllowUnexported(serverLook{}), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".dynamic" }, cmp.Ignore())); diff != "" {
			c.failed = true
			s.t.Errorf("%s server, %s (%s): before and after differ (-before +after):\n%s", what, c.keyword, c.options, diff)
		}
	}
}

// startAgent starts an agent that answers what it is sent, or else "up ready 100%",
// and gives its port.
func startAgent(t *testing.T, echoes bool) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				answer := "up ready 100%"
				if echoes {
					question := make([]byte, 64) // it has no end of line
					n, _ := c.Read(question)
					answer = string(question[:n])
				}
				_, _ = fmt.Fprintln(c, strings.TrimSpace(answer))
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// startMySQL starts a server that greets and says OK, as MySQL does, and gives its
// port. The greeting is that of MySQL 5.7, protocol version 10.
func startMySQL(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	greeting := "\x0a5.7.0\x00\x01\x00\x00\x00abcdefgh\x00\xff\xf7\x08\x02\x00\x0f\x80\x15" + strings.Repeat("\x00", 10) + "abcdefghijkl\x00"
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = fmt.Fprintf(c, "%c\x00\x00\x00%s", len(greeting), greeting)
				login := make([]byte, 256)
				if n, _ := c.Read(login); bytes.Contains(login[:n], []byte("haproxy\x00")) {
					_, _ = c.Write([]byte("\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"))
				}
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
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
