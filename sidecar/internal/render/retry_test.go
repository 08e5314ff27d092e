package render_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
	"github.com/pointsman/pointsman/test/lab"
)

// closingNode is a server that reads each request and closes the connection
// without an answer. It answers requests to /ok, and every second one to /second.
type closingNode struct {
	addr netip.AddrPort
	mu   sync.Mutex
	got  map[string]int // requests by method
}

func startClosingNode(t *testing.T) *closingNode {
	t.Helper()
	n := &closingNode{got: map[string]int{}}
	n.addr = lab.Listen(t, n.serve).AddrPort()
	return n
}

func (n *closingNode) serve(conn net.Conn) {
	for in := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/ok" || n.count(r.Method)%2 == 0 && r.URL.Path == "/second" {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			continue
		}
		return
	}
}

func (n *closingNode) count(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got[method]++
	return n.got[method]
}

// requests returns how many of a method came since it was asked last.
func (n *closingNode) requests(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	got := n.got[method]
	delete(n.got, method)
	return got
}

// ownRetry is a backend_extra or defaults_extra that repeats much.
const ownRetry = "retry-on all-retryable-errors"

// An operator's frontends, which lead to a service without bind.
const (
	byDefault = "frontend mine\n  mode http\n  bind %s\n  default_backend api_nodes\n"
	byRule    = "frontend mine\n  mode http\n  bind %s\n  use_backend api_nodes if { path_beg / }\n"
	byMap     = "frontend mine\n  mode http\n  bind %s\n  use_backend %%[path,regsub(.*,api_nodes)]\n"
)

// A server that closes a connection without an answer may have done what was
// asked. Each request that may not be repeated reaches it once.
func TestRetry_ServerClosesWithoutAnswer_PostIsSentOnce(t *testing.T) {
	backendOnly := api(func(s *render.Service) { s.Bind = nil })
	for _, c := range []struct {
		name     string
		settings render.Settings
		frontend string
		template string // "": the built-in one
	}{
		{"generated frontend", settings(), "", ""},
		{"own frontend, default_backend", settings(backendOnly), byDefault, ""},
		{"own frontend, use_backend", settings(backendOnly), byRule, ""},
		{"own frontend, use_backend by expression", settings(backendOnly), byMap, ""},
		{"retry-on in backend_extra", settings(backendOnly, api(func(s *render.Service) { s.RetryOn, s.BackendExtra = nil, []string{ownRetry} })), byDefault, ""},
		{"retry-on in defaults_extra", settings(backendOnly, api(func(s *render.Service) { s.RetryOn = nil }),
			func(s *render.Settings) { s.DefaultsExtra = []string{ownRetry} }), byDefault, ""},
		{"own template", settings(backendOnly), byDefault, ownTemplate("", "    retry-on all-retryable-errors\n    "+guard+"\n")},
		{
			"own template, guard in its defaults", settings(backendOnly), "defaults\n  timeout client 9s\n" + byDefault,
			ownTemplate(" shop\n    mode http\n    "+guard, "    retry-on all-retryable-errors\n"),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			node := startClosingNode(t)
			front := haproxytest.FreeAddr(t).String()
			p := haproxytest.Prepare(t, haproxytest.Options{Raw: true}, "")
			s := c.settings
			s.RuntimeSocket = p.Runtime()
			s.Services[0].Check = render.Check{}
			if c.frontend == "" {
				s.Services[0].Bind = []string{front}
			}
			text := c.template
			if text == "" {
				text = templates.HAProxy
			}
			content, err := newRenderer(t, text, s).Render(backends(server("one", node.addr.String())))
			if err != nil {
				t.Fatal(err)
			}
			if c.frontend != "" {
				content = append(content, fmt.Sprintf("\n"+c.frontend, front)...)
			}
			p.WriteConfig(string(content))
			p.Launch()
			for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
				client := clientOf(t, protocol)
				// The first request opens connections that the others may use.
				ask(t, client, http.MethodGet, "http://"+front+"/ok")
				for _, method := range []string{http.MethodPost, http.MethodPatch} {
					ask(t, client, method, "http://"+front+"/")
					if got := node.requests(method); got != 1 {
						t.Errorf("%s: got a %s %d times, want once", protocol, method, got)
					}
				}
				ask(t, clientOf(t, protocol), http.MethodGet, "http://"+front+"/second")
				if got := node.requests(http.MethodGet); got != 2 {
					t.Errorf("%s: got a GET %d times, want twice", protocol, got)
				}
			}
		})
	}
}

const guard = "http-request disable-l7-retry unless { method GET HEAD OPTIONS PUT DELETE TRACE }"

// ownTemplate is an operator's template with these words in its defaults, and in
// each service's backend.
func ownTemplate(defaults, backend string) string {
	return `global
    stats socket {{.RuntimeSocket}} mode 600 level admin
defaults` + defaults + `
    timeout connect 1s
    timeout client 9s
    timeout server 9s
{{range .Services}}
backend {{.Backend}}` + fromOf(defaults) + `
    mode {{.Mode}}
` + backend + `{{range .Servers}}
    {{.}}
{{end}}
{{end}}`
}

func fromOf(defaults string) string {
	if name, _, _ := strings.Cut(strings.TrimPrefix(defaults, " "), "\n"); name != "" && !strings.HasPrefix(defaults, "\n") {
		return " from " + name
	}
	return ""
}

// HAProxy accepts such a template, and sends a POST to several servers.
func TestTemplate_RepeatsWhatMayNotBeRepeated_IsRefused(t *testing.T) {
	const repeats = "    retry-on conn-failure empty-response\n"
	for _, c := range []struct {
		name, template string
		want           string // in the error; "": accepted
	}{
		{"the built-in one", templates.HAProxy, ""},
		{"the built-in one without the guard", strings.ReplaceAll(templates.HAProxy, guard, ""), `"retry-on conn-failure empty-response"`},
		{"retry-on without the guard", ownTemplate("", repeats), "line 14 "},
		{"retry-on with the guard", ownTemplate("", repeats+"    "+guard+" # as it must be\n"), ""},
		{"retry-on with a guard of its own", ownTemplate("", repeats+"    http-request disable-l7-retry if METH_POST\n"), ""},
		{"retry-on with the guard in a comment", ownTemplate("", repeats+"    # "+guard+"\n"), "line 14 "},
		{"retry-on before anything is sent", ownTemplate("", "    retry-on conn-failure\n"), ""},
		{"no retry-on", ownTemplate("", ""), ""},
		{"a comment", ownTemplate("", "    # "+repeats), ""},
		{"in the defaults", ownTemplate("\n"+repeats, ""), "line 8 "},
		{"in the defaults, not in the backend", ownTemplate("\n"+repeats, "    retry-on none\n"), ""},
		{"in the defaults, the guard in the backend", ownTemplate("\n"+repeats, "    "+guard+"\n"), ""},
		{"in named defaults", ownTemplate(" shop\n"+repeats, ""), "line 8 "},
		{"in other defaults", "defaults other\n" + repeats + ownTemplate("", ""), ""},
		{"in defaults of defaults", "defaults base\n" + repeats + ownTemplate(" shop from base\n", ""), "line 6 "},
		{"in the defaults before", "defaults\n" + repeats + ownTemplate("", ""), ""},
		{"mode tcp", strings.Replace(ownTemplate("", repeats), "{{.Mode}}", "tcp", 1), ""},
		{"no mode", strings.Replace(ownTemplate("", repeats), "mode {{.Mode}}", "", 1), ""},
		{"a listen section", strings.Replace(ownTemplate("", repeats), "\nbackend", "\nlisten", 1), "listen api_nodes: line 14 "},
		{"a backend of the operator's own", ownTemplate("", "") + "\nbackend mine\n    mode http\n" + repeats + "    server s 127.0.0.1:9\n", ""},
		{"a listen of the operator's own", ownTemplate("", "") + "\nlisten mine\n    mode http\n" + repeats + "    server s 127.0.0.1:9\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := render.New("/etc/pointsman/mine.tmpl", c.template, settings())
			if c.want == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range []string{"render: template /etc/pointsman/mine.tmpl: ", " api_nodes: line ", c.want, guard} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
}

// clientOf returns a client that keeps its connections and repeats nothing itself.
func clientOf(t *testing.T, protocol string) *http.Client {
	t.Helper()
	var only http.Protocols
	only.SetHTTP1(protocol == "HTTP/1.1")
	only.SetUnencryptedHTTP2(protocol == "HTTP/2")
	transport := &http.Transport{Protocols: &only}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// ask sends one request and reads the answer, whatever it is. HAProxy gives none
// where the server has closed a connection that it had answered on before.
func ask(t *testing.T, client *http.Client, method, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var body io.Reader = http.NoBody
	if method != http.MethodGet {
		body = io.NopCloser(strings.NewReader("x")) // such a request is not repeated by the client
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if (response.ProtoMajor == 2) != client.Transport.(*http.Transport).Protocols.UnencryptedHTTP2() {
		t.Fatalf("answered by %s", response.Proto)
	}
}

// The first rule of a pause ends those of a request to a service that is not paused.
func TestTemplate_RulesBehindAPause_AreRefused(t *testing.T) {
	const pause = "    http-request allow unless { be_name,map_str_int(/run/haproxy.cfg.pointsman.pauses.map) -m found }\n    http-request set-var(txn.pm_now) date(0,ms)\n"
	const rule = "    http-request deny if { path /admin }\n"
	for _, c := range []struct {
		name, template string
		want           string // in the error; "": accepted
	}{
		{"before it", ownTemplate("", rule+pause), ""},
		{"behind it", ownTemplate("", pause+rule), `"http-request deny if { path /admin }"`},
		{"a rule of responses behind it", ownTemplate("", pause+"    http-response del-header X\n"), ""},
		{"in defaults that the backend is made from", ownTemplate(" shop\n"+pause, rule), `"http-request deny if { path /admin }"`},
		{"in other defaults", "defaults other\n" + pause + ownTemplate("", rule), ""},
	} {
		_, err := render.New("/etc/pointsman/mine.tmpl", c.template, settings())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
