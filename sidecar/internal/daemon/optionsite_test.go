package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/test/certtest"
	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

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

	discovers bool // the services are discovered in Consul, each with a profile of its own
	peers     string
}

type optionService struct {
	optionCase
	name          string
	first, second *witness
	failed        bool
}

func newOptionSite(t *testing.T, cases []optionCase) *optionSite {
	t.Helper()
	s := prepareOptionSite(t, cases)
	s.leaveOutUnknown()
	s.start()
	return s
}

func prepareOptionSite(t *testing.T, cases []optionCase) *optionSite {
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
		c.settings, c.agent = replaceIn(c.settings, replace), replace.Replace(c.agent)
		c.shows = strings.Split(replace.Replace(strings.Join(c.shows, "\n")), "\n")
		s.services = append(s.services, &optionService{optionCase: c, name: fmt.Sprintf("s%d", i), first: newWitness(t, s.certs), second: newWitness(t, s.certs)})
	}
	s.haproxy = haproxytest.Prepare(t, haproxytest.Options{Raw: true}, "")
	return s
}

// inter is the interval of checks. Clients and servers are in this program. Where
// the machine gives it no time, its servers answer late: HAProxy ends a check's TLS
// handshake after the shorter of `inter` and `timeout connect`, the rest after
// `timeout check`, takes all servers for down (L6TOUT), and no sidecar prevents it.
const inter = "2s"

// settings is the settings file.
func (s *optionSite) settings() []byte {
	services := []map[string]any{}
	for _, c := range s.services {
		service := map[string]any{
			"name": c.name, "server_options": c.options, "backend_extra": append([]string{}, c.lines...),
			"check": map[string]any{"path": checkPath, "inter": inter, "fast_inter": "100ms", "down_inter": "100ms", "rise": 1, "fall": 10},
			"slots": map[string]any{"force": c.slots, "min": 2, "spare": 1},
		}
		if !s.discovers {
			service["bind"], service["backend_extra"] = s.socket(c), append([]string{"http-send-name-header X-Server"}, c.lines...)
		}
		if c.balance != "" {
			service["balance"] = c.balance
		}
		merge(service, c.settings)
		services = append(services, service)
	}
	file := map[string]any{
		"name": "lb0", "services": services, "file_delay": "10ms", "addresses": map[string]any{"allow": "127.0.0.0/8"}, // n1 is another machine
		"reload": map[string]any{"debounce": "10ms", "max_delay": "100ms", "min_interval": "0s"},
		"consul": map[string]any{"address": s.consul.Address()}, "api": map[string]any{"address": "127.0.0.1:0"},
		"haproxy": map[string]any{
			"socket": s.haproxy.Runtime(), "master_socket": s.haproxy.Master(), "config": s.haproxy.ConfigFile(),
			"check_command": []string{haproxytest.Binary(s.t), "-c", "-f", "{file}"},
			"defaults":      map[string]any{"timeouts": map[string]any{"connect": "10s"}}, // see inter
			"global":        map[string]any{"user": "", "group": "", "chroot": "", "stats_socket_group": "", "extra": []string{"ssl-default-server-options ssl-min-ver TLSv1.0"}},
		},
	}
	if s.discovers {
		s.discover(file, services)
	}
	text, err := json.Marshal(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return text
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

// replaceIn returns settings with what the names of files stand for.
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

func (s *optionSite) socket(c *optionService) string {
	if s.discovers {
		return filepath.Join(s.haproxy.Dir(), "web")
	}
	return filepath.Join(s.haproxy.Dir(), c.name)
}

// host is that of a discovered service.
func (c *optionService) host() string { return c.name + ".test" }

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
		content := fileOf(s.t, cfg, s.oneServerEach())
		s.haproxy.WriteConfig(content)
		output, valid := s.haproxy.Check()
		if valid {
			return
		}
		// HAProxy names every line that it does not take at once.
		alerts := map[string]string{} // by backend, the first
		for _, m := range alertLine.FindAllStringSubmatch(output, -1) {
			n, _ := strconv.Atoi(m[1])
			backend := ""
			for _, line := range strings.Split(content, "\n")[:n] {
				if words := strings.Fields(line); len(words) > 1 && words[0] == "backend" {
					backend = words[1]
				}
			}
			if alerts[backend] == "" {
				alerts[backend] = m[0]
			}
		}
		before := len(s.services)
		s.services = slices.DeleteFunc(s.services, func(c *optionService) bool {
			if alerts[c.name] != "" {
				s.t.Logf("%s: %s", c.keyword, alerts[c.name])
				s.unknown = append(s.unknown, c.fact())
			}
			return alerts[c.name] != ""
		})
		if len(s.services) == before {
			s.t.Fatalf("HAProxy rejects the file, and no service in it:\n%s", output)
		}
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
	d, err := New(s.t.Context(), cfg, Options{Log: &s.log, Version: "test", Reload: s.load})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.Remove(s.haproxy.ConfigFile()); err != nil {
		s.t.Fatal(err)
	}
	s.agent = d.agent
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
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
		if c.agent != "" {
			meta["pointsman-agent-port"] = c.agent
		}
		if c.isBackup {
			meta["backup"] = "true"
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
	var tags []string
	if s.discovers {
		tags, meta["pointsman-profile"] = []string{"route=" + c.host() + "/app strip"}, c.name
	}
	_, err = client.Catalog().Register(&api.CatalogRegistration{Node: "n1", Address: "127.0.0.1", Service: &api.AgentService{
		ID: c.name + "-" + id, Service: c.name, Address: "127.0.0.1", Port: int(w.addr().Port()), Meta: meta, Tags: tags,
		Weights: api.AgentWeights{Passing: max(1, c.weight), Warning: 1},
	}}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
}

// client speaks to HAProxy as a client of the service, a connection for each
// request.
func (s *optionSite) client(c *optionService) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, c, anyClient) },
	}}
}

// anyClient is a client that every service takes.
const anyClient = "10.1.2.3"

// dial connects to HAProxy as a client of the service at an address, which only the
// frontend of discovered services learns.
func (s *optionSite) dial(ctx context.Context, c *optionService, from string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.socket(c))
	if err == nil && s.discovers {
		_, err = fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 4000 80\r\n", from)
	}
	return conn, err
}

// url is where the service is reached.
func (s *optionSite) url(c *optionService, path string) string {
	if s.discovers {
		return "http://" + c.host() + "/app" + path
	}
	return "http://api.test" + path
}

// traffic sends requests until the first server has had one.
func (s *optionSite) traffic(c *optionService) {
	s.t.Helper()
	client := s.client(c)
	for n := range 200 {
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url(c, fmt.Sprintf("/%d", n)), http.NoBody)
		if err != nil {
			s.t.Fatal(err)
		}
		if s.discovers {
			req.SetBasicAuth("alice", "secret")
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

// startAgent starts an agent that answers what it is sent, or else "up ready 100%",
// and gives its port.
func startAgent(t *testing.T, echoes bool) string {
	t.Helper()
	return strconv.Itoa(lab.Listen(t, func(c net.Conn) {
		answer := "up ready 100%"
		if echoes {
			question := make([]byte, 64) // it has no end of line
			n, _ := c.Read(question)
			answer = string(question[:n])
		}
		_, _ = fmt.Fprintln(c, strings.TrimSpace(answer))
	}).Port)
}

// startMySQL starts a server that greets and says OK, as MySQL does, and gives its
// port. The greeting is that of MySQL 5.7, protocol version 10.
func startMySQL(t *testing.T) string {
	t.Helper()
	greeting := "\x0a5.7.0\x00\x01\x00\x00\x00abcdefgh\x00\xff\xf7\x08\x02\x00\x0f\x80\x15" + strings.Repeat("\x00", 10) + "abcdefghijkl\x00"
	return strconv.Itoa(lab.Listen(t, func(c net.Conn) {
		_, _ = fmt.Fprintf(c, "%c\x00\x00\x00%s", len(greeting), greeting)
		login := make([]byte, 256)
		if n, _ := c.Read(login); bytes.Contains(login[:n], []byte("haproxy\x00")) {
			_, _ = c.Write([]byte("\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"))
		}
		_, _ = io.Copy(io.Discard, c)
	}).Port)
}
