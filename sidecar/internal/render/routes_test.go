package render_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/sidecar/internal/route"
	"github.com/pointsman/pointsman/templates"
	"github.com/pointsman/pointsman/test/certtest"
	"github.com/pointsman/pointsman/test/lab"
)

// routed is a running HAProxy with one frontend, and the map that it looks into.
type routed struct {
	address string
	table   route.Map
}

// startRouted renders a frontend with a backend for each name, that answers with
// its name and the path it got, and starts HAProxy with it.
func startRouted(t *testing.T, f render.Frontend, servers ...map[string]string) routed {
	t.Helper()
	p := haproxytest.Prepare(t, haproxytest.Options{Raw: true}, "")
	address := haproxytest.FreeAddr(t).String()
	f.Name, f.Bind, f.LoadBalancer = "web", append([]string{address}, f.Bind...), "lb0"
	if f.Mode == "" {
		f.Mode = "http"
	}
	config := p.ConfigFile()
	s := settings(func(s *render.Settings) {
		s.RuntimeSocket, s.SocketMode = p.Runtime(), "600"
		s.MapPath, s.Frontends, s.Services = config, []render.Frontend{f}, nil
		seen := map[string]bool{}
		for _, r := range append(f.Routes, route.Route{Backend: f.Default}) {
			if r.Backend == "" || seen[r.Backend] {
				continue
			}
			seen[r.Backend] = true
			svc := render.Service{Name: r.Backend, Backend: r.Backend, Mode: f.Mode, Balance: "roundrobin"}
			if f.Mode == "http" {
				svc.BackendExtra = []string{fmt.Sprintf(`http-request return status 200 content-type text/plain lf-string "%s %%[pathq] %%[req.hdr(X-Forwarded-For)] %%[req.hdr(X-Forwarded-Proto)] %%[req.hdr_cnt(X-Forwarded-For)]"`, r.Backend)}
			}
			for _, at := range servers {
				svc.BackendExtra = append(svc.BackendExtra, "server one "+at[r.Backend])
			}
			s.Services = append(s.Services, svc)
		}
	})
	content, err := newRenderer(t, templates.HAProxy, s).Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := render.NewFile(config, []string{haproxytest.Binary(t), "-c", "-f", render.FilePlaceholder}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(t.Context(), content); err != nil {
		t.Fatalf("%v\n%s", err, content)
	}
	p.Launch()
	table, _ := route.Compile(f.Routes)
	return routed{address, table}
}

// raw sends a request as it is written and gives the status and the body.
func (r routed) raw(t *testing.T, request string) (status int, body string) {
	t.Helper()
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // it was read to its end
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer func() { _ = res.Body.Close() }() // likewise
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(out)
}

func get(target, host string, headers ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

// The rows are those of docs/routes.md. Each is asked of HAProxy and of the function
// that says what HAProxy does.
func TestRoutes_EachRowOfTheTable_ModelAndHAProxyAgree(t *testing.T) {
	host := func(s string) string {
		h, err := route.ParseHost(s)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	r := startRouted(t, render.Frontend{Routes: []route.Route{
		{Host: "shop.example.com", Backend: "shop"},
		{Host: "shop.example.com", Path: "/v1", Backend: "v1"},
		{Host: "shop.example.com", Path: "/v1/deep", Backend: "deep", Strip: 2},
		{Host: "api.example.com", Path: "/v2", Backend: "api"},
		{Host: "*.example.com", Backend: "wild"},
		{Host: "*.example.com", Path: "/v1", Backend: "wildv1"},
		{Host: "*.eu.example.com", Backend: "eu"},
		{Host: host("bücher.example"), Backend: "books"},
		{Path: "/health", Backend: "health"},
		{Path: "/%7Ea", Backend: "tilde"},
	}})
	for _, c := range []struct{ host, path, want string }{
		{"shop.example.com", "/", "shop"},
		{"SHOP.Example.com", "/", "shop"},
		{"shop.example.com:8080", "/", "shop"},
		{"shop.example.com.", "/", "shop"},
		{"shop.example.com.:80", "/", "shop"},
		{"shop.example.com", "/v1", "v1"},
		{"shop.example.com", "/v1/", "v1"},
		{"shop.example.com", "/v1/x", "v1"},
		{"shop.example.com", "/v1?x=/v1/deep", "v1"},
		{"shop.example.com", "/v10", "shop"},
		{"shop.example.com", "/V1", "shop"},
		{"shop.example.com", "/%761", "shop"},
		{"shop.example.com", "//v1", "shop"},
		{"shop.example.com", "/x/v1", "shop"},
		{"shop.example.com", "/v1;p", "shop"},
		{"shop.example.com", "/v1/deep", "deep"},
		{"shop.example.com", "/v1/deeper", "v1"},
		{"shop.example.com", "/v1/../x", "v1"},
		{"api.example.com", "/v2/x", "api"},
		{"api.example.com", "/", "wild"},     // no path of the exact host matches
		{"api.example.com", "/v1", "wildv1"}, // likewise
		{"a.b.example.com", "/v1", "wildv1"}, // a wildcard is one label or more
		{"a.b.c.d.e.example.com", "/", "wild"},
		{"a.b.c.d.e.f.example.com", "/", ""}, // six labels
		{"example.com", "/", ""},             // none
		{"x.eu.example.com", "/v1", "eu"},    // the most specific host, though another has the longer path
		{"notexample.com", "/", ""},
		{"xn--bcher-kva.example", "/", "books"},
		{"other.test", "/health", "health"},
		{"other.test", "/health/x", "health"},
		{"other.test", "/healthz", ""},
		{"shop.example.com", "/health", "shop"}, // the host counts first
		{"", "/health", "health"},
		{"", "/", ""},
		{"[::1]:80", "/health", "health"},
		{"192.0.2.1", "/health", "health"},
		{"other.test", "/%7Ea", "tilde"},
		{"other.test", "/~a", ""},
		{"*.example.com", "/", "wild"},
		{"shop.example.com", "/" + strings.Repeat("p", 8000), "shop"},
	} {
		path, _, _ := strings.Cut(c.path, "?")
		if _, got := r.table.Lookup(c.host, path); strings.Split(got, "/")[0] != c.want {
			t.Errorf("the model of %q %.40q: %q, want %q", c.host, c.path, got, c.want)
		}
		status, body := r.raw(t, get(c.path, c.host))
		backend, _, _ := strings.Cut(body, " ")
		switch {
		case c.want == "" && (status != 404 || !strings.Contains(body, "load balancer lb0, frontend web")):
			t.Errorf("HAProxy for %q %.40q: %d %q, want a 404 that says whose it is", c.host, c.path, status, body)
		case c.want != "" && (status != 200 || backend != c.want):
			t.Errorf("HAProxy for %q %.40q: %d %.80q, want %q", c.host, c.path, status, body, c.want)
		}
	}
}

func TestRoutes_UnusualRequests_KeepHostAndPathApart(t *testing.T) {
	r := startRouted(t, render.Frontend{Routes: []route.Route{
		{Host: "a.test", Backend: "a"}, {Host: "a.test", Path: "/admin", Backend: "admin"}, {Path: "/any", Backend: "any"},
	}})
	for _, c := range []struct {
		name, request string
		status        int
		backend       string
	}{
		{"absolute form", get("http://a.test/admin/x", "a.test"), 200, "admin"},
		{"absolute form without a path", get("http://a.test", "a.test"), 200, "a"},
		{"absolute form of another host", get("http://a.test/", "b.test"), 400, ""},
		{"a path in the host", get("/any", "a.test/admin"), 400, ""},
		{"two hosts", get("/", "a.test", "Host: b.test"), 400, ""},
		{"HTTP/1.0 without a host", "GET /any HTTP/1.0\r\n\r\n", 200, "any"},
		{"HTTP/1.0 without a host or a route", "GET / HTTP/1.0\r\n\r\n", 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := r.raw(t, c.request)
			if backend, _, _ := strings.Cut(body, " "); status != c.status || c.backend != "" && backend != c.backend {
				t.Errorf("got %d %q, want %d %q", status, body, c.status, c.backend)
			}
		})
	}
}

func TestRoutes_StripPrefix_TakesWholeSegmentsAndKeepsTheQuery(t *testing.T) {
	long := strings.Repeat("/s", route.MaxStrip)
	r := startRouted(t, render.Frontend{Routes: []route.Route{
		{Path: "/cart", Backend: "cart", Strip: 1},
		{Path: "/a/b", Backend: "ab", Strip: 2},
		{Path: "/a/b/c", Backend: "c", Strip: 1},
		{Path: long, Backend: "long", Strip: route.MaxStrip},
	}})
	for _, c := range []struct{ path, want string }{
		{"/cart", "cart / "},
		{"/cart/", "cart / "},
		{"/cart/x/y?q=1", "cart /x/y?q=1 "},
		{"/cart//x", "cart //x "},
		{"/a/b/x", "ab /x "},
		{"/a/b/c/x", "c /b/c/x "},
		{"/cart?q", "cart /?q "},
		{long + "/x", "long /x "},
	} {
		if status, body := r.raw(t, get(c.path, "h.test")); status != 200 || !strings.HasPrefix(body, c.want) {
			t.Errorf("%s: %d %q, want %q", c.path, status, body, c.want)
		}
	}
}

func TestRoutes_MethodsAndHeaders_ChooseAmongRoutesOfOneHostAndPath(t *testing.T) {
	r := startRouted(t, render.Frontend{Default: "fallback", Routes: []route.Route{
		{Host: "a.test", Path: "/api", Backend: "write", Methods: []string{"POST", "PUT"}},
		{Host: "a.test", Path: "/api", Backend: "canary", Headers: []route.Header{{Name: "X-Canary", Value: "always on"}, {Name: "X-Two"}}},
		{Host: "a.test", Path: "/api", Backend: "flag", Headers: []route.Header{{Name: "X-Flag", Value: "-i"}}},
		{Host: "a.test", Path: "/api", Backend: "dollar", Headers: []route.Header{{Name: "X-Flag", Value: "a$b {x}"}}},
		{Host: "a.test", Path: "/api", Backend: "read"},
		{Host: "a.test", Path: "/only", Backend: "only", Methods: []string{"GET"}},
		{Host: "a.test", Backend: "root"},
	}})
	for _, c := range []struct{ request, want string }{
		{strings.Replace(get("/api/x", "a.test"), "GET", "POST", 1), "write"},
		{get("/api/x", "a.test"), "read"},
		{get("/api/x", "a.test", "X-Canary: always on", "X-Two: 1"), "canary"},
		{get("/api/x", "a.test", "X-Canary: always on"), "read"},
		{get("/api/x", "a.test", "X-Canary: always", "X-Two: 1"), "read"},
		{get("/api/x", "a.test", "X-Flag: -i"), "flag"},
		{get("/api/x", "a.test", "X-Flag: a$b {x}"), "dollar"},
		{get("/api/x", "a.test", "X-Flag: a"), "read"},
		{get("/only", "a.test"), "only"},
		{strings.Replace(get("/only", "a.test"), "GET", "POST", 1), "fallback"}, // not the shorter path
		{get("/", "a.test"), "root"},
		{get("/", "b.test"), "fallback"},
	} {
		status, body := r.raw(t, c.request)
		if backend, _, _ := strings.Cut(body, " "); status != 200 || backend != c.want {
			t.Errorf("%q: %d %q, want %q", c.request, status, body, c.want)
		}
	}
}

func TestFrontend_ForwardedHeaders_AreTheLoadBalancers(t *testing.T) {
	spoofed := []string{"X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: gopher"}
	for mode, want := range map[string]string{
		"replace": "a / 127.0.0.1 http 1", "append": "a / 192.0.2.9 gopher 1", "off": "a / 192.0.2.9 gopher 1",
	} {
		r := startRouted(t, render.Frontend{Forwarded: mode, Routes: []route.Route{{Backend: "a"}}})
		if _, body := r.raw(t, get("/", "h.test", spoofed...)); body != want {
			t.Errorf("%s: %q, want %q", mode, body, want)
		}
	}
}

func TestFrontend_RedirectHTTPS_KeepsHostPathAndQuery(t *testing.T) {
	r := startRouted(t, render.Frontend{RedirectHTTPS: true, Routes: []route.Route{{Backend: "a"}}})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.address+"/x?y=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.example.com"
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // nothing in it matters
	if got := res.Header.Get("Location"); res.StatusCode != 301 || got != "https://shop.example.com/x?y=1" {
		t.Errorf("got %d to %q", res.StatusCode, got)
	}
}

// A route in mode tcp is found by the server name of TLS, which HAProxy does not end.
func TestRoutes_SNI_PassesTLSThroughToTheServiceOfTheName(t *testing.T) {
	ca := certtest.New(t)
	servers := map[string]string{}
	for _, name := range []string{"db", "wild", "rest"} {
		ca.Sign(name)
		settings := &tls.Config{Certificates: []tls.Certificate{ca.Pair(name)}, MinVersion: tls.VersionTLS12}
		servers[name] = lab.Listen(t, func(c net.Conn) {
			secure := tls.Server(c, settings)
			_ = secure.HandshakeContext(t.Context()) // the client says what it got
			_ = secure.Close()
		}).String()
	}
	routes := []route.Route{{Host: "db.example.com", Backend: "db"}, {Host: "*.example.com", Backend: "wild"}}
	for _, c := range []struct {
		fallback, name, want string
	}{
		{"rest", "db.example.com", "db"},
		{"rest", "DB.example.com", "db"},
		{"rest", "a.b.example.com", "wild"},
		{"rest", "example.com", "rest"},
		{"rest", "", "rest"},
		{"", "db.example.com", "db"},
		{"", "other.test", ""},
		{"every name", "db.example.com", "db"},
		{"every name", "a.example.com", "wild"},
		{"every name", "other.test", "rest"},
		{"every name", "", "rest"},
	} {
		frontend := render.Frontend{Mode: "tcp", Routes: routes, Default: c.fallback}
		if c.fallback == "every name" {
			frontend.Routes, frontend.Default = append(slices.Clone(routes), route.Route{Backend: "rest"}), ""
		}
		r := startRouted(t, frontend, servers)
		got := ""
		if raw, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.address); err == nil {
			conn := tls.Client(&slowStart{Conn: raw}, &tls.Config{ServerName: c.name, InsecureSkipVerify: true}) //nolint:gosec // it looks at the certificate itself
			if conn.HandshakeContext(t.Context()) == nil {
				got = conn.ConnectionState().PeerCertificates[0].Subject.CommonName
			}
			_ = conn.Close() // it has said what it is
		}
		if got != c.want {
			t.Errorf("%q with default %q: %q, want %q", c.name, c.fallback, got, c.want)
		}
	}
}

// slowStart sends the first message in two parts, as a network does with one that is
// larger than a packet.
type slowStart struct {
	net.Conn
	isOpen bool
}

func (s *slowStart) Write(b []byte) (int, error) {
	if s.isOpen {
		return s.Conn.Write(b)
	}
	s.isOpen = true
	// HAProxy looks at each part alone.
	if err := s.isRead(); err != nil {
		return 0, err
	}
	n, err := s.Conn.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	if err := s.isRead(); err != nil {
		return n, err
	}
	rest, err := s.Conn.Write(b[n:])
	return n + rest, err
}

// isRead waits until the peer, a process of this machine, has accepted the connection and
// read all that was written to it: its socket has an inode, and an empty receive queue,
// in /proc/net/tcp (proc(5); addresses there are in the machine's byte order).
func (s *slowStart) isRead() error {
	hex := func(a net.Addr) string {
		at := a.(*net.TCPAddr)
		return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(at.IP.To4()), at.Port)
	}
	peer := hex(s.RemoteAddr()) + " " + hex(s.LocalAddr()) + " "
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			return err
		}
		_, line, _ := strings.Cut(string(table), " "+peer)
		line, _, _ = strings.Cut(line, "\n")
		// st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
		if f := strings.Fields(line); len(f) > 6 && strings.HasSuffix(f[1], ":00000000") && f[6] != "0" {
			return nil
		}
	}
	return errors.New("the peer has not read what was written")
}

// The map files are in place before the file that names them, and a file that is
// rejected changes none.
func TestFile_MapFiles_FollowTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	content := func(routes ...string) []byte {
		out := render.Header + "\n#map web\n"
		for _, r := range routes {
			out += "#route " + r + "\n"
		}
		return []byte(out)
	}
	read := func() string {
		got, err := os.ReadFile(path + ".web.map")
		if err != nil {
			return err.Error()
		}
		return strings.TrimPrefix(string(got), render.Header+"\n")
	}
	accepts, err := render.NewFile(path, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	rejects, err := render.NewFile(path, []string{"/bin/false", render.FilePlaceholder}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rejects.Write(t.Context(), content("a.test/ a")); err == nil {
		t.Error("a rejected file was written")
	}
	if got := read(); !strings.Contains(got, "no such file") {
		t.Errorf("a rejected file leaves a map: %q", got)
	}
	for _, routes := range []string{"a.test/ a", "b.test/ b"} {
		if _, err := accepts.Write(t.Context(), content(routes)); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != routes+"\n" {
			t.Errorf("the map is %q, want %q", got, routes)
		}
	}
	if _, err := rejects.Write(t.Context(), content("c.test/ c")); err == nil || read() != "b.test/ b\n" {
		t.Errorf("after a rejected file (%v) the map is %q", err, read())
	}
	if err := os.WriteFile(path+".web.map", []byte("changed by hand\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := accepts.Write(t.Context(), content("b.test/ b")); err != nil || !changed || read() != "b.test/ b\n" {
		t.Errorf("a map that was changed is not put back: %v, %v, %q", changed, err, read())
	}
	if err := accepts.Restore(content("a.test/ a"), errors.New("a reload failed")); err != nil || read() != "a.test/ a\n" {
		t.Errorf("restored with %v to the map %q", err, read())
	}
	if _, err := accepts.Write(t.Context(), []byte(render.Header+"\n")); err != nil || !strings.Contains(read(), "no such file") {
		t.Errorf("the map of a frontend that is gone: %v, %q", err, read())
	}
}

// What the runtime can change takes no reload: routes by host and path. Rules of
// haproxy.cfg, which conditions are, take one.
func TestMarker_RoutesInTheMap_AreNoPartOfIt(t *testing.T) {
	of := func(routes ...route.Route) string {
		s := settings(func(s *render.Settings) {
			s.MapPath, s.Frontends = mapPath, []render.Frontend{{Name: "web", Bind: []string{":80"}, Mode: "http", Routes: routes}}
		})
		return newRenderer(t, templates.HAProxy, s).Marker().String()
	}
	a, b := route.Route{Host: "a.test", Backend: "api_nodes"}, route.Route{Host: "b.test", Path: "/x", Backend: "api_nodes", Strip: 1}
	conditional := route.Route{Host: "b.test", Path: "/x", Backend: "api_nodes", Methods: []string{"GET"}}
	if of() != of(a) || of(a) != of(b, a) {
		t.Error("a route of host and path changes the marker")
	}
	if of(a) == of(a, conditional) {
		t.Error("a route with a method does not change the marker")
	}
	if of(a, conditional) != of(conditional) {
		t.Error("a route beside one with a method changes the marker")
	}
}

// HTTP/2 over TLS is led as HTTP/1.1 is, and responses have HSTS, also the 404.
func TestFrontend_TLS_OffersHTTP2AndSendsHSTS(t *testing.T) {
	ca := certtest.New(t)
	ca.Sign("web")
	ca.Write("both.pem", append(ca.Read("web.pem"), ca.Read("web-key.pem")...))
	for _, c := range []struct {
		alpn     []string
		protocol string
	}{{[]string{"h2", "http/1.1"}, "HTTP/2.0"}, {[]string{"http/1.1"}, "HTTP/1.1"}} {
		address := haproxytest.FreeAddr(t).String()
		startRouted(t, render.Frontend{
			Bind: []string{address + " ssl crt " + ca.Path("both.pem")}, ALPN: c.alpn, HSTS: time.Hour, Forwarded: "replace", RedirectHTTPS: true,
			Routes: []route.Route{{Host: "shop.example.com", Path: "/cart", Backend: "cart", Strip: 1}},
		})
		client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12}}}
		for path, want := range map[string]struct {
			status int
			body   string
		}{"/cart/x?y": {200, "cart /x?y 127.0.0.1 https 1"}, "/": {404, "No route"}} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "Shop.example.com:443"
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close() // it was read
			if err != nil || res.StatusCode != want.status || !strings.HasPrefix(string(body), want.body) {
				t.Errorf("%s: %d %q, %v; want %d %q", path, res.StatusCode, body, err, want.status, want.body)
			}
			if hsts := res.Header.Get("Strict-Transport-Security"); res.Proto != c.protocol || hsts != "max-age=3600" {
				t.Errorf("%s: %s, HSTS %q", path, res.Proto, hsts)
			}
		}
		client.CloseIdleConnections()
	}
}
