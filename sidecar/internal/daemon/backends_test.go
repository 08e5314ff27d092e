package daemon

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/haproxy"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/test/compat"
)

// profileCase is settings of a profile, of which a discovered service gets its backend.
type profileCase struct {
	optionCase
	byReload string // the setting because of which a reload brings the backend; "": HAProxy adds it
	words    string // must be on the lines of its servers, where nothing else shows them
	lacks    string // must not be in what is shown

	probe func(*backendSite, *optionService) string // nil: ask is all
	want  []string                                  // what must be in the answers
}

func profiled(keyword string, settings map[string]any, more ...func(*profileCase)) profileCase {
	c := profileCase{optionCase: optionCase{keyword: keyword, settings: settings}}
	for _, m := range more {
		m(&c)
	}
	return c
}

type m = map[string]any

// profileCases has each setting of a profile that HAProxy has to know; those that become
// words of a server's line are in policyCases, and tried here, too.
func profileCases() []profileCase {
	answers := func(want ...string) func(*profileCase) { return func(c *profileCase) { c.want = want } }
	shows := func(want ...string) func(*profileCase) { return func(c *profileCase) { c.shows = want } }
	byReload := func(key string) func(*profileCase) { return func(c *profileCase) { c.byReload = key } }
	words := func(w string) func(*profileCase) { return func(c *profileCase) { c.words = w } }
	probe := func(p func(*backendSite, *optionService) string, want ...string) func(*profileCase) {
		return func(c *profileCase) { c.probe, c.want = p, want }
	}
	cases := []profileCase{
		profiled("none", m{}, answers("algo:roundrobin", "mode:http", "GET /plain: 200 /plain", "GET /503: 503 after 1", "GET /close: 502 after 4", "POST /close: 502 after 1")),
		profiled("balance", m{"balance": "leastconn"}, answers("algo:leastconn")),
		profiled("balance, static", m{"balance": "static-rr"}, answers("algo:static-rr"), byReload("balance")),
		profiled("check.enabled", m{"check": m{"enabled": false}}, func(c *profileCase) { c.isUnchecked, c.lacks = true, " check " }),
		profiled("check.path", m{"check": m{"path": checkPath + "?deep=1"}}, shows(checkPath+"?deep=1")),
		profiled("check.host", m{"check": m{"host": "probe.test"}}, shows("host=probe.test")),
		profiled("check.inter and others", m{"check": m{"inter": "1500ms", "fast_inter": "120ms", "down_inter": "130ms"}}, words("check inter 1500ms fastinter 120ms downinter 130ms")),
		profiled("check.rise and check.fall", m{"check": m{"rise": 2, "fall": 7}}, words("rise 2 fall 7")),
		profiled("check.timeout", m{"check": m{"timeout": "200ms", "inter": "300ms"}}, probe(slowChecks, "L7TOUT")),
		profiled("prefer_zone", m{"prefer_zone": true}, func(c *profileCase) { c.isBackup = true }, probe(whoAnswers, "all of them")),
		profiled("datacenters", m{"datacenters": []string{"dc1", "dc2"}}, func(c *profileCase) { c.isBackup = true }, probe(whoAnswers, "all of them")),
		profiled("queue_timeout", m{"max_connections": 1, "queue_timeout": "300ms"}, probe(fullQueue, "503 at once")),
		profiled("outlier, whole", m{"outlier": m{"observe": "layer7", "error_limit": 3, "on_error": "mark-down"}}, probe(manyErrors, "down")),
		profiled("retries and retry_on", m{"retries": 1, "retry_on": []string{"503"}}, answers("GET /503: 503 after 2", "GET /close: 502 after 1")),
		profiled("upstream.verify and others", m{"upstream": m{"tls": true, "ca_file": "CERTS/ca.pem", "sni": "server", "verify": true}}, shows("sni=server")),
		profiled("agent_check.interval", m{"agent_check": m{"from_meta": true, "interval": "200ms"}}, func(c *profileCase) { c.agent = "AGENT" }, shows("srv_agent_port:AGENT", "srv_agent_state:22")),
		profiled("sticky.cookie without a key", m{"sticky": m{"cookie": "SRV"}}, byReload("sticky.cookie"), answers("cookie SRV=*; path=/; HttpOnly")),
		profiled("sticky.cookie with a key", m{"sticky": m{"cookie": "SRV", "key": "a-key-of-all"}}, answers("cookie SRV=*; path=/; HttpOnly")),
		profiled("sticky.cookie, whole", m{"sticky": m{"cookie": "SRV", "key": "a-key-of-all", "secure": true, "max_idle": "1m", "max_life": "1h"}}, probe(sticksByCookie, "SRV=*|T|T; path=/; HttpOnly; Secure", "the same one")),
		profiled("sticky.source", m{"sticky": m{"source": true, "clients": 1000, "expire": "10m"}}, byReload("sticky.source"), probe(sticksByAddress, "the same one")),
		profiled("allowed_sources", m{"allowed_sources": []string{"10.0.0.0/8"}}, answers("GET /plain: 200", "elsewhere: 403")),
		profiled("rate_limit", m{"rate_limit": m{"requests": 20, "per": "1h", "clients": 1000}}, byReload("rate_limit.requests"), probe(manyRequests, "20 answered, 5 refused")),
		profiled("pause", m{"pause": m{"max": "5s", "max_requests": 1}}, probe(whilePaused, "1 waited, 1 refused")),
		profiled("basic_auth", m{"basic_auth": m{"users": []string{policyUser}, "realm": "here"}}, byReload("basic_auth.users"), answers("GET /plain: 200", `elsewhere: 401 realm="here"`)),
		profiled("maintenance_page", m{"maintenance_page": m{"enabled": true, "file": "CERTS/page.html"}}, func(c *profileCase) { c.isClosed = true }, answers("GET /plain: 503 <h1>back soon</h1>")),
		profiled("compression", m{"compression": []string{"text/"}}, byReload("compression"), answers("GET /plain: 200 gzip")),
		profiled("slots.force", m{"slots": m{"force": true}}, byReload("slots.force")),
		profiled("server_options", m{"server_options": "ssl verify none"}, shows("traffic HTTP/1.1 TLS", "check HTTP/1.1 TLS")),
		profiled("backend_extra", m{"backend_extra": []string{"http-response set-header X-Extra yes"}}, byReload("backend_extra"), answers("extra")),
	}
	for _, c := range policyCases {
		// Those that keep a service in haproxy.cfg, and cookies without a key, are above.
		if !c.slots && c.settings["sticky"] == nil {
			cases = append(cases, profileCase{optionCase: c})
		}
	}
	return cases
}

// sidecarSettings are the settings of a profile by which the sidecar decides, and of which
// HAProxy knows nothing: its backend is the same one with any of them.
var sidecarSettings = m{
	"resolve": true, "max_instances": 7, "warning_takes_traffic": false,
	"addresses":     m{"allow": []string{"127.0.0.0/8"}, "deny": []string{"10.0.0.0/8"}},
	"drain_timeout": "7s", "session_kill_after": "7s", "session_kill_spread": "7s", "drain_sticky": "move", "replacement_timeout": "7s",
	"min_servers": 7, "guard": m{"max_loss_ratio": 0.7, "window": "7s", "hold": "7s", "hold_deregistered": "7s"},
	"damping": m{"flaps": 7, "min": "7s", "max": "7m", "forget": "77m"},
	"slots":   m{"min": 7, "spare": 7},
}

// policyUser is alice with the password secret.
const policyUser = "alice:$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"

// TestBackend_EachSettingOfAProfile_SameAtRuntimeAndInFile is for backends what
// TestServerOptions_EachKeyword_SameServerInFileAndAtRuntime is for servers: services are
// discovered, each with a profile of its own. A backend that HAProxy added as it runs and
// the same one after a reload must not differ in what HAProxy says of them and in how they
// treat requests. Where one cannot be added, a reload brings it, and says because of what.
func TestBackend_EachSettingOfAProfile_SameAtRuntimeAndInFile(t *testing.T) {
	s := newBackendSite(t, profileCases())
	if s == nil {
		return
	}
	why := s.appear("one", func(c *profileCase) bool { return c.byReload != "" })
	for _, c := range s.services {
		if key := s.cases[c].byReload; key != "" && !strings.Contains(why[c.name], "profile "+c.name+" has "+key) {
			t.Errorf("%s: a reload came because %q, want %s", c.keyword, why[c.name], key)
		}
	}
	pid, err := s.haproxy.Worker()
	if err != nil {
		t.Fatal(err)
	}
	s.appear("one", func(c *profileCase) bool { return c.byReload == "" })
	runtime := s.look("added at runtime")
	if now, err := s.haproxy.Worker(); err != nil || now != pid {
		t.Errorf("worker %d became %d (%v), want no reload: %+v", pid, now, err, s.agent.State().Reloads)
	}
	s.haproxy.Reload()
	reloaded := s.look("after a reload")
	s.compare("after a reload", runtime, reloaded, true)
	s.register("two", func(c *optionService) *witness { return c.second })
	beside := s.look("with a second server")
	s.compare("with a second server", reloaded, beside, false)
	s.haproxy.Reload()
	again := s.look("after another reload")
	s.compare("after another reload", beside, again, true)
	if !t.Failed() {
		compat.HAProxy(t, backendFact, "yes")
	}
}

// backendFact is the row of docs/compatibility.md.
const backendFact = "a backend added at runtime is the one of haproxy.cfg"

// Each setting of a profile is tried, or is the sidecar's own and changes nothing in
// haproxy.cfg.
func TestBackend_SettingsOfAProfile_EachIsTriedOrTheSidecarsOwn(t *testing.T) {
	file := func(more m) string {
		profile := m{"name": "default", "check": m{"path": checkPath}}
		merge(profile, more)
		text, err := json.Marshal(m{
			"services": []any{}, "profiles": []any{profile},
			"frontends": []any{m{"name": "web", "bind": ":80", "discover": m{"tag_prefix": "route=", "allow": []any{m{"host": "*.test", "services": "*"}}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		cfg := loaded(t, string(text))
		content := fileOf(t, cfg, nil)
		_, below, found := strings.Cut(content, "defaults pointsman.profile.default")
		if !found {
			t.Fatalf("the profile is not in it:\n%s", content)
		}
		return below
	}
	plain := file(m{})
	tried := map[string]bool{"name": true, "services": true}
	for _, c := range profileCases() {
		for key := range flat("", c.settings) {
			tried[key] = true
		}
	}
	for key, value := range flat("", sidecarSettings) {
		tried[key] = true
		if got := file(nested(key, value)); got != plain {
			t.Errorf("%s changes haproxy.cfg: try it with a backend (-without +with):\n%s", key, cmp.Diff(plain, got))
		}
	}
	cfg := loaded(t, `{"services": [], "profiles": [{"name": "default"}]}`)
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var printed struct{ Profiles []m }
	if err := json.Unmarshal(text, &printed); err != nil || len(printed.Profiles) != 1 {
		t.Fatalf("%v in %s", err, text)
	}
	all := flat("", printed.Profiles[0])
	for key := range all {
		if !tried[key] {
			t.Errorf("%s: neither tried nor the sidecar's own", key)
		}
	}
	if len(all) < 50 {
		t.Errorf("a profile has %d settings only: this proves nothing", len(all))
	}
}

// flat returns values by their keys, as "check.path".
func flat(prefix string, of m) m {
	out := m{}
	for key, value := range of {
		if section, isSection := value.(m); isSection {
			maps.Copy(out, flat(prefix+key+".", section))
			continue
		}
		out[prefix+key] = value
	}
	return out
}

// nested is one value below its key.
func nested(key string, value any) m {
	section, rest, isNested := strings.Cut(key, ".")
	if !isNested {
		return m{key: value}
	}
	return m{section: nested(rest, value)}
}

// backendSite is an optionSite whose services are discovered.
type backendSite struct {
	*optionSite
	cases map[*optionService]*profileCase
	looks int
}

// backendLook is what there is to see of one backend and of its first server.
type backendLook struct {
	Server  serverLook
	Backend map[string]string
	Answers []string
}

// newBackendSite returns nil where HAProxy adds no backends.
func newBackendSite(t *testing.T, cases []profileCase) *backendSite {
	t.Helper()
	version, err := exec.CommandContext(t.Context(), haproxytest.Binary(t), "-v").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !haproxy.ProgramCapabilities(string(version)).Backends {
		compat.HAProxy(t, backendFact, "none are added")
		return nil
	}
	options := make([]optionCase, 0, len(cases))
	for _, c := range cases {
		options = append(options, c.optionCase)
	}
	s := &backendSite{optionSite: prepareOptionSite(t, options), cases: map[*optionService]*profileCase{}}
	s.certs.Write("page.html", []byte("<h1>back soon</h1>"))
	s.discovers, s.peers = true, haproxytest.FreeAddr(t).String()
	for i, c := range s.services {
		s.cases[c] = &cases[i]
	}
	s.start()
	return s
}

// discover has the services as profiles, and a frontend that finds them.
func (s *optionSite) discover(file m, services []m) {
	for _, p := range services {
		p["services"] = p["name"]
	}
	file["services"], file["profiles"], file["discovery"] = []m{}, services, m{"grace": "1s"}
	file["frontends"] = []m{{
		"name": "web", "bind": s.haproxy.Dir() + "/web accept-proxy",
		"discover": m{"tag_prefix": "route=", "allow": []m{{"host": "*.test", "services": "*"}}},
	}}
	merge(file, m{"haproxy": m{"peers": m{"address": s.peers}}})
}

// appear registers an instance of some services, waits until HAProxy leads requests to
// their backends, and gives why a reload came for them.
func (s *backendSite) appear(id string, which func(*profileCase) bool) (why map[string]string) {
	s.t.Helper()
	all, why := s.services, map[string]string{}
	defer func() { s.services = all }()
	s.services = slices.DeleteFunc(slices.Clone(all), func(c *optionService) bool { return !which(s.cases[c]) })
	s.register(id, func(c *optionService) *witness { return c.first })
	haproxytest.Until(s.t, "HAProxy leads requests to the backends", func() bool {
		r := s.agent.State().Reloads
		for _, c := range slices.Concat(r.For, r.LastFor) {
			why[c.Backend] = c.Why
		}
		routes := s.haproxy.Command("show map " + s.haproxy.ConfigFile() + ".web.map")
		return !slices.ContainsFunc(s.services, func(c *optionService) bool { return !strings.Contains(routes, " "+c.host()+"/app/ ") })
	})
	return why
}

// look is that of the first server of each service, and of its backend.
func (s *backendSite) look(when string) map[string]backendLook {
	s.t.Helper()
	s.looks++
	out := map[string]backendLook{}
	for name, server := range s.optionSite.look(when) {
		out[name] = backendLook{Server: server, Backend: map[string]string{}}
	}
	var each sync.WaitGroup
	answers := make([][]string, len(s.services))
	for i, c := range s.services {
		if !c.failed {
			each.Go(func() { answers[i] = s.answers(c) })
		}
	}
	each.Wait()
	for i, c := range s.services {
		if c.failed {
			continue
		}
		look, wants := out[c.name], s.cases[c]
		look.Answers = answers[i]
		for name, value := range s.backendColumns(c.name) {
			// HAProxy sets fullconn ("slim") to 1 for backends of the file that no line names. It
			// says when the servers of a backend may use all of their maxconn: with 0 and 1 always.
			// Refused requests ("dreq") are of the past.
			if name != "slim" && name != "dreq" && !volatile.MatchString(name) {
				look.Backend[name] = value
			}
		}
		out[c.name] = look
		shown, said := fmt.Sprint(look.Backend, look.Server), strings.Join(append(look.Answers, fmt.Sprint(look.Backend)), "\n")
		for _, part := range wants.want {
			if !strings.Contains(said, part) {
				c.failed = true
				s.t.Errorf("%s, %s: no %q in the answers\n%s", c.keyword, when, part, said)
			}
		}
		if wants.lacks != "" && strings.Contains(shown, wants.lacks) {
			c.failed = true
			s.t.Errorf("%s, %s: %q in %s", c.keyword, when, wants.lacks, shown)
		}
		if wants.words != "" && !strings.Contains(s.words(c), wants.words) {
			c.failed = true
			s.t.Errorf("%s, %s: no %q among the words of its servers, %q", c.keyword, when, wants.words, s.words(c))
		}
	}
	return out
}

// words is what stands on the line of its server in haproxy.cfg, and behind `add server`.
func (s *backendSite) words(c *optionService) string {
	cfg, err := s.load()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range cfg.Profiles {
		if p.Name == c.name {
			return renderService(cfg, p.Service).Options()
		}
	}
	return ""
}

// backendColumns is what HAProxy shows of a backend.
func (s *backendSite) backendColumns(name string) map[string]string {
	out := map[string]string{}
	head, row, _ := strings.Cut(strings.TrimPrefix(s.haproxy.Command("show stat "+name+" 2 -1"), "# "), "\n")
	fields := strings.Split(row, ",")
	for i, column := range strings.Split(head, ",") {
		if column != "" && i < len(fields) {
			out[column] = fields[i]
		}
	}
	return out
}

// compare compares two looks; where another server has come between, only those of the first
// one: weights of the backend are sums.
func (s *backendSite) compare(what string, before, after map[string]backendLook, isSame bool) {
	s.t.Helper()
	servers := func(looks map[string]backendLook) map[string]serverLook {
		out := map[string]serverLook{}
		for name, l := range looks {
			out[name] = l.Server
		}
		return out
	}
	s.optionSite.compare(what, servers(before), servers(after))
	for _, c := range s.services {
		if c.failed {
			continue
		}
		x, y := before[c.name], after[c.name]
		x.Server, y.Server = serverLook{}, serverLook{}
		if !isSame {
			x, y = backendLook{}, backendLook{}
		}
		if diff := cmp.Diff(x, y, cmp.AllowUnexported(serverLook{})); diff != "" {
			c.failed = true
			s.t.Errorf("%s, %s: before and after differ (-before +after):\n%s", c.keyword, what, diff)
		}
	}
}

// answers is how a backend treats requests.
func (s *backendSite) answers(c *optionService) []string {
	if p := s.cases[c].probe; p != nil {
		return []string{p(s, c)}
	}
	from := fmt.Sprintf("10.9.0.%d", s.looks)
	const gzips, knows = "Accept-Encoding: gzip\r\n", "Authorization: Basic YWxpY2U6c2VjcmV0\r\n"
	var out []string
	out = append(out, "GET /plain: "+s.ask(c, "GET", "/plain", from, gzips+knows), "elsewhere: "+s.ask(c, "GET", "/plain", fmt.Sprintf("192.0.2.%d", s.looks), ""))
	if s.cases[c].isClosed {
		return out
	}
	for _, what := range []string{"GET /503", "GET /close", "POST /close"} {
		method, path, _ := strings.Cut(what, " ")
		before := c.first.hit(what) + c.second.hit(what)
		status, _, _ := strings.Cut(s.ask(c, method, path, from, knows), " ")
		out = append(out, fmt.Sprintf("%s: %s after %d", what, status, c.first.hit(what)+c.second.hit(what)-before))
		s.ask(c, "GET", "/plain", from, knows) // it is an error among others
	}
	return out
}

// ask sends a request as a client of an address, and gives the status, and what else there is
// to see of the answer.
func (s *backendSite) ask(c *optionService, method, path, from, header string) string {
	status, headers, body, err := s.send(c, method, path, from, header)
	if err != nil {
		return err.Error()
	}
	out := []string{fmt.Sprint(status)}
	for name, text := range map[string]string{"Content-Encoding": "%s", "X-Extra": "extra"} {
		if value := headers.Get(name); value != "" {
			out = append(out, strings.ReplaceAll(text, "%s", value))
		}
	}
	if realm := headers.Get("WWW-Authenticate"); realm != "" {
		out = append(out, strings.TrimPrefix(realm, "Basic "))
	}
	if cookie := headers.Get("Set-Cookie"); cookie != "" {
		out = append(out, "cookie "+masked(cookie))
	}
	body, _, _ = strings.Cut(body, " at ")
	return strings.Join(append(out, body), " ")
}

// masked is a cookie without who it is for and since when.
func masked(cookie string) string {
	return regexp.MustCompile(`\|[A-Za-z0-9+/]+`).ReplaceAllString(regexp.MustCompile(`=[0-9a-f]{16}`).ReplaceAllString(cookie, "=*"), "|T")
}

func (s *backendSite) send(c *optionService, method, path, from, header string) (status int, headers http.Header, body string, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	conn, err := s.dial(ctx, c, from)
	if err != nil {
		return 0, nil, "", err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	_, _ = fmt.Fprintf(conn, "%s /app%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n%s\r\n", method, path, c.host(), header)
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, nil, "", err
	}
	defer func() { _ = reply.Body.Close() }()
	content := io.Reader(reply.Body)
	if reply.Header.Get("Content-Encoding") == "gzip" {
		if content, err = gzip.NewReader(reply.Body); err != nil {
			return 0, nil, "", err
		}
	}
	text, err := io.ReadAll(content)
	return reply.StatusCode, reply.Header, string(text), err
}

// servers is how many of them each backend has.
func (s *backendSite) servers() int {
	if s.looks > 2 {
		return 2
	}
	return 1
}

// The probes of settings that one request does not show.

// slowChecks says what HAProxy makes of a check that is answered late, but not too late for
// the default of check.timeout.
func slowChecks(s *backendSite, c *optionService) string {
	c.first.checkTakes.Store(int64(500 * time.Millisecond))
	defer c.first.checkTakes.Store(0)
	is := func(want string) bool {
		return strings.HasSuffix(s.columns(c.name, c.first.addr())["check_status"], want)
	}
	haproxytest.Until(s.t, c.keyword+": a check is not answered in time", func() bool { return is("TOUT") })
	said := s.columns(c.name, c.first.addr())["check_status"]
	c.first.checkTakes.Store(0)
	haproxytest.Until(s.t, c.keyword+": the next one is", func() bool { return is("OK") })
	return said
}

// whoAnswers says whether all servers answer requests, also those that are backups.
func whoAnswers(s *backendSite, c *optionService) string {
	who := map[string]bool{}
	for range 20 {
		_, _, body, err := s.send(c, "GET", "/plain", anyClient, "")
		if err != nil {
			return err.Error()
		}
		who[body] = true
	}
	servers := s.servers()
	if len(who) != servers {
		return fmt.Sprintf("%d of %d", len(who), servers)
	}
	return "all of them"
}

// fullQueue says what becomes of a request while all connections are taken.
func fullQueue(s *backendSite, c *optionService) string {
	before := c.first.hit("GET /hold") + c.second.hit("GET /hold")
	var held sync.WaitGroup
	defer held.Wait()
	defer func() { c.first.endHeld(); c.second.endHeld() }()
	for range 2 {
		held.Go(func() { s.ask(c, "GET", "/hold", anyClient, "") })
	}
	servers := s.servers()
	haproxytest.Until(s.t, c.keyword+": its connections are taken", func() bool {
		return c.first.hit("GET /hold")+c.second.hit("GET /hold")-before >= servers
	})
	began := time.Now()
	answer := s.ask(c, "GET", "/plain", anyClient, "")
	if took := time.Since(began); took < 4*time.Second && strings.HasPrefix(answer, "503") {
		return "503 at once"
	}
	return answer
}

// whilePaused says what becomes of two requests while the service is paused.
func whilePaused(s *backendSite, c *optionService) string {
	cfg, err := s.load()
	if err != nil {
		return err.Error()
	}
	key := pauseMap(cfg).File + " " + c.name
	s.haproxy.Command(fmt.Sprintf("add map %s %d", key, time.Now().Add(1500*time.Millisecond).UnixMilli()))
	defer s.haproxy.Command("del map " + key) // the sidecar may have been faster
	var all sync.WaitGroup
	var waited, refused atomic.Int32
	for range 2 {
		all.Go(func() {
			began := time.Now()
			status, headers, _, err := s.send(c, "GET", "/plain", anyClient, "")
			switch {
			case err != nil:
			case status == http.StatusServiceUnavailable && headers.Get("Retry-After") != "":
				refused.Add(1)
			case status == http.StatusOK && time.Since(began) > 300*time.Millisecond:
				waited.Add(1)
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d waited, %d refused", waited.Load(), refused.Load())
}

// manyErrors says whether errors in a row take the first server down.
func manyErrors(s *backendSite, c *optionService) string {
	downs := func() string { return s.columns(c.name, c.first.addr())["chkdown"] }
	before := downs()
	for range 40 {
		s.ask(c, "GET", "/503", anyClient, "")
		if downs() != before {
			haproxytest.Until(s.t, c.keyword+" is up again", func() bool { return s.isUp(c, c.first) })
			return "down"
		}
	}
	return "not down"
}

// sticksByCookie says whether a client comes back to the same server by its cookie.
func sticksByCookie(s *backendSite, c *optionService) string {
	_, headers, first, err := s.send(c, "GET", "/plain", anyClient, "")
	if err != nil {
		return err.Error()
	}
	cookie := headers.Get("Set-Cookie")
	value, _, _ := strings.Cut(cookie, ";")
	return masked(cookie) + " " + s.comesBack(c, first, anyClient, "Cookie: "+value+"\r\n")
}

// sticksByAddress says whether it does so by its address.
func sticksByAddress(s *backendSite, c *optionService) string {
	from := fmt.Sprintf("10.9.1.%d", s.looks)
	_, _, first, err := s.send(c, "GET", "/plain", from, "")
	if err != nil {
		return err.Error()
	}
	return s.comesBack(c, first, from, "")
}

func (s *backendSite) comesBack(c *optionService, first, from, header string) string {
	for range 6 {
		_, _, body, err := s.send(c, "GET", "/plain", from, header)
		if err != nil || body != first {
			return fmt.Sprintf("another one (%v): %s after %s", err, body, first)
		}
	}
	return "the same one"
}

// manyRequests counts what a client gets that sends more than it may.
func manyRequests(s *backendSite, c *optionService) string {
	counts := map[int]int{}
	for range 25 {
		status, _, _, err := s.send(c, "GET", "/plain", fmt.Sprintf("10.9.2.%d", s.looks), "")
		if err != nil {
			return err.Error()
		}
		counts[status]++
	}
	return fmt.Sprintf("%d answered, %d refused", counts[http.StatusOK], counts[http.StatusTooManyRequests])
}
