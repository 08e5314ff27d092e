package daemon

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// policyCases has each setting that becomes words of a server's line, or lines that
// say how HAProxy speaks to servers. CERTS and MYSQL stand for a directory and a port.
var policyCases = []optionCase{
	{keyword: "slow_start", settings: map[string]any{"slow_start": "1s"}},
	{keyword: "max_connections", settings: map[string]any{"max_connections": 2}, shows: []string{"slim:2"}},
	{keyword: "max_connections with meta", settings: map[string]any{"max_connections": 2}, maxconn: "5", shows: []string{"slim:5"}},
	{keyword: "max_queue", settings: map[string]any{"max_connections": 2, "max_queue": 3, "queue_timeout": "2s"}, shows: []string{"qlimit:3"}},
	{keyword: "agent_check.from_meta", settings: map[string]any{"agent_check": map[string]any{"from_meta": true}}, agent: "AGENT", shows: []string{"srv_agent_port:AGENT", "srv_agent_state:22"}},
	{keyword: "agent_check.from_meta without the meta key", settings: map[string]any{"agent_check": map[string]any{"from_meta": true, "interval": "200ms"}}, shows: []string{"srv_agent_port:9", "srv_agent_state:22"}},
	{keyword: "agent_check.from_meta where servers stay in haproxy.cfg", settings: map[string]any{"agent_check": map[string]any{"from_meta": true}}, agent: "AGENT", slots: true, shows: []string{"srv_agent_port:AGENT", "srv_agent_state:22"}},
	{keyword: "outlier", settings: map[string]any{"outlier": map[string]any{"observe": "layer7", "error_limit": 5}}},
	{keyword: "retries", settings: map[string]any{"retries": 1, "retry_on": []string{"conn-failure", "503"}}},
	{keyword: "upstream.protocol h2", settings: map[string]any{"upstream": map[string]any{"protocol": "h2"}}, shows: []string{"traffic HTTP/2.0", "check HTTP/2.0"}},
	{keyword: "upstream.protocol h2 with upstream.tls", settings: map[string]any{"upstream": map[string]any{"protocol": "h2", "tls": true, "verify": false}}, shows: []string{"traffic HTTP/2.0 TLS", "check HTTP/2.0 TLS", "alpn=h2"}},
	{keyword: "upstream.tls with a client certificate", settings: map[string]any{"upstream": map[string]any{"tls": true, "ca_file": "CERTS/ca.pem", "sni": "server", "cert_file": "CERTS/client-both.pem"}}, shows: []string{"sni=server", "cert=client"}},
	{keyword: "upstream.proxy_protocol v1", settings: map[string]any{"upstream": map[string]any{"proxy_protocol": "v1"}}, shows: []string{"check HTTP/1.1 from=127.0.0.1 proxy=v1", "traffic HTTP/1.1 from=127.0.0.1 proxy=v1"}},
	{keyword: "upstream.proxy_protocol v2 with upstream.tls", settings: map[string]any{"upstream": map[string]any{"proxy_protocol": "v2", "tls": true, "verify": false}}, shows: []string{"check HTTP/1.1 TLS", "proxy=v2", "traffic HTTP/1.1 TLS"}},
	{keyword: "check.type tcp", settings: map[string]any{"check": map[string]any{"type": "tcp", "path": ""}}},
	{keyword: "check.type redis", settings: map[string]any{"check": map[string]any{"type": "redis", "path": ""}}, shows: []string{"check redis"}},
	{keyword: "check.type pgsql", settings: map[string]any{"check": map[string]any{"type": "pgsql", "path": "", "user": "haproxy"}}, shows: []string{"check pgsql user=haproxy"}},
	{keyword: "check.type mysql", settings: map[string]any{"check": map[string]any{"type": "mysql", "path": "", "user": "haproxy"}}, options: "port MYSQL"},
	{keyword: "sticky.cookie", settings: map[string]any{"sticky": map[string]any{"cookie": "SRV", "max_idle": "1m"}}},
}

// TestPolicy_EachSetting_SameServerInFileAndAtRuntime is for settings what
// TestServerOptions_EachKeyword_SameServerInFileAndAtRuntime is for keywords.
func TestPolicy_EachSetting_SameServerInFileAndAtRuntime(t *testing.T) {
	sameInFileAndAtRuntime(t, policyCases)
}

// TestPolicy_AccessAndAnswers_AsSet asks a real HAProxy by the rules that the settings
// of a service become. Each service listens on a socket of its name, where a PROXY
// header says who the client is.
func TestPolicy_AccessAndAnswers_AsSet(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(page, []byte("<h1>back soon</h1>"), 0o644); err != nil {
		t.Fatal(err)
	}
	networks := "10.0.0.0/8"
	for n := range 60 { // more than stand on one line
		networks += fmt.Sprintf(", 192.168.%d.0/24", n)
	}
	s := newPolicySite(t, map[string]string{
		"allowed":     "allowed_sources: [" + networks + "]",
		"allowedtcp":  "mode: tcp\n  allowed_sources: [10.0.0.0/8]",
		"limited":     "rate_limit: {requests: 3, per: 1h}",
		"limitedtcp":  "mode: tcp\n  rate_limit: {requests: 3, per: 1h}",
		"auth":        "basic_auth: {users: ['alice:$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1']}",
		"maintenance": "maintenance_page: {enabled: true, file: " + page + "}",
		"empty":       "maintenance_page: {file: " + page + "}",
		"compressed":  "compression: [text/]",
	})
	for _, c := range []struct {
		name, service, from string
		times               int // the request is sent before, 0 is none
		header, want        string
	}{
		{name: "a source that is allowed", service: "allowed", from: "10.1.2.3", want: "200 hello"},
		{name: "one on the second line", service: "allowed", from: "192.168.59.1", want: "200 hello"},
		{name: "one that is not", service: "allowed", from: "192.0.2.1", want: "403"},
		{name: "a source that is allowed, mode tcp", service: "allowedtcp", from: "10.1.2.3", want: "200 hello"},
		{name: "one that is not, mode tcp", service: "allowedtcp", from: "192.0.2.1", want: "no answer"},
		{name: "the last request within the limit", service: "limited", from: "192.0.2.1", times: 2, want: "200 hello"},
		{name: "the first beyond it", service: "limited", from: "192.0.2.1", want: "429"},
		{name: "another client", service: "limited", from: "2001:db8::1", want: "200 hello"},
		{name: "the last connection within the limit", service: "limitedtcp", from: "192.0.2.1", times: 2, want: "200 hello"},
		{name: "the first connection beyond it", service: "limitedtcp", from: "192.0.2.1", want: "no answer"},
		{name: "no password", service: "auth", from: "192.0.2.1", want: "401"},
		{name: "a wrong password", service: "auth", from: "192.0.2.1", header: "Authorization: Basic YWxpY2U6d3Jvbmc=", want: "401"},
		{name: "the right password", service: "auth", from: "192.0.2.1", header: "Authorization: Basic YWxpY2U6c2VjcmV0", want: "200 hello"},
		{name: "maintenance", service: "maintenance", from: "192.0.2.1", want: "503 <h1>back soon</h1>"},
		{name: "no server", service: "empty", from: "192.0.2.1", want: "503 <h1>back soon</h1>"},
		{name: "a type that is compressed", service: "compressed", from: "192.0.2.1", header: "Accept-Encoding: gzip", want: "200 gzip hello"},
	} {
		for range c.times {
			s.ask(c.service, c.from, c.header)
		}
		if got := s.ask(c.service, c.from, c.header); got != c.want && (strings.Contains(c.want, " ") || !strings.HasPrefix(got, c.want+" ")) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

type policySite struct {
	t   *testing.T
	dir string
}

func newPolicySite(t *testing.T, services map[string]string) *policySite {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(upstream.Close)
	p := haproxytest.Prepare(t, haproxytest.Options{Raw: true}, "")
	s := &policySite{t: t, dir: p.Dir()}
	yaml := fmt.Sprintf("haproxy: {socket: %s, global: {user: '', group: '', chroot: '', stats_socket_group: ''}}\nservices:\n", p.Runtime())
	var backends []plan.FileBackend
	for name, settings := range services {
		yaml += fmt.Sprintf("- name: %s\n  bind: %s accept-proxy\n  check: {enabled: false}\n  %s\n", name, s.socket(name), settings)
		b := plan.FileBackend{Service: name, Backend: name, Known: true}
		if name != "empty" {
			b.Servers = []plan.FileServer{{Name: "one", Addr: netip.MustParseAddrPort(upstream.Listener.Addr().String()), Weight: 1}}
		}
		backends = append(backends, b)
	}
	p.WriteConfig(fileOf(t, loaded(t, yaml), backends))
	p.Launch()
	return s
}

func (s *policySite) socket(service string) string { return filepath.Join(s.dir, service) }

// ask sends a request as a client of an address, and gives status and body.
func (s *policySite) ask(service, from, header string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", s.socket(service))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	family, to := "TCP4", "127.0.0.1"
	if strings.Contains(from, ":") {
		family, to = "TCP6", "::1"
	}
	if header != "" {
		header += "\r\n"
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	_, _ = fmt.Fprintf(c, "PROXY %s %s %s 4000 80\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", family, from, to, header)
	reply, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "no answer"
	}
	defer func() { _ = reply.Body.Close() }()
	how := ""
	body := io.Reader(reply.Body)
	if reply.Header.Get("Content-Encoding") == "gzip" {
		how = "gzip "
		if body, err = gzip.NewReader(reply.Body); err != nil {
			return err.Error()
		}
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s%s", reply.StatusCode, how, content)
}
