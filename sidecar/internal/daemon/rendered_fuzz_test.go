package daemon

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// FuzzRenderedFile: whatever the catalog's names and the operator's values are,
// as long as they were let in, HAProxy takes the file that comes of them, and
// it holds exactly the servers that were meant. What an operator writes as
// HAProxy's own words (balance, *_extra, server_options) is HAProxy's to judge,
// and not among it.
func FuzzRenderedFile(f *testing.F) {
	f.Add("api-1\x00api-2\x00a b;c\n#", []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "/healthz", "", "/", uint16(0))
	f.Add("\x00.\x00:\x00slot-1\x00x-h0123456789ab\x00\xff\x00аpi", []byte("0123456789abcdefghijklmnopqrstuvwxyz"), "/h?a=1&b=%2e", "api.example", "/health", uint16(0xfffe))
	f.Add(strings.Repeat("x", 5000), []byte{0, 0, 0, 0, 0, 0, 0, 0}, "/%[src]", "[::1]", "/{", uint16(0x180))
	f.Add("'\x00\"\x00\\\x00$HOME\x00\"$HOME\"", []byte{255}, "/$HOME", "$HOME", "/${HOME}", uint16(0x155))
	f.Add("api-1", []byte{1}, "/a#b", "", "/", uint16(0x80))
	haproxy := haproxytest.Binary(f)
	f.Fuzz(func(t *testing.T, ids string, attributes []byte, path, host, uri string, choices uint16) {
		cfg, err := fuzzedSettings(path, host, uri, choices)
		if err != nil {
			return // it was not let in
		}
		renderer, err := NewRenderer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		meant := fuzzedServers(ids, attributes)
		got, err := renderer.Render([]plan.FileBackend{{Service: "api", Backend: "api", Known: true, Servers: meant}})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(got)) {
			if owner.MatchString(line) {
				continue
			}
			if strings.ContainsAny(line, "#\"'\\\r\x00") && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				t.Errorf("%q: HAProxy reads it as something else than its words", line)
			}
		}
		servers := serversIn(t, string(got))
		if rotation := servers[plan.RotationBackend]; InRotation(cfg) != (len(rotation) == 1) {
			t.Errorf("backend %s has %v", plan.RotationBackend, rotation)
		}
		delete(servers, plan.RotationBackend)
		if diff := cmp.Diff(servers, map[string][]plan.FileServer{"api": meant}, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the servers in the file (-got +meant):\n%s", diff)
		}
		file := filepath.Join(t.TempDir(), "haproxy.cfg")
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), haproxy, "-c", "-f", file).CombinedOutput(); err != nil {
			t.Errorf("HAProxy does not take it: %v\n%s\n%s", err, out, got)
		}
	})
}

// owner is the only line with quotes, which make one word of JSON.
var owner = regexp.MustCompile(`^    setenv POINTSMAN_OWNER '[^'\x00-\x1f]*'\n$`)

// fuzzedSettings are settings as a file would hold them. Each bit of choices
// is one of them.
func fuzzedSettings(path, host, uri string, choices uint16) (config.Config, error) {
	bit := func(n int) bool { return choices>>n&1 == 1 }
	pick := func(n int, no, yes string) string {
		if bit(n) {
			return yes
		}
		return no
	}
	service := map[string]any{
		"name": "api", "bind": "127.0.0.1:8080", "mode": pick(0, "http", "tcp"), "balance": pick(1, "roundrobin", "leastconn"),
		"check": map[string]any{"enabled": !bit(2), "path": path, "host": host, "inter": pick(3, "1s", "1500ms"), "rise": 1, "fall": 3},
	}
	if bit(4) {
		service["bind"] = []string{"*:80", "[::]:80"}
	}
	if bit(5) && !bit(0) {
		service["retry_on"] = []string{"conn-failure", "response-timeout", "503"}
	}
	haproxy := map[string]any{"log": pick(6, "stdout format raw local0", "")}
	if bit(7) {
		haproxy["stats"] = map[string]any{"bind": "127.0.0.1:8404", "uri": uri}
	}
	if bit(8) {
		haproxy["health"] = map[string]any{"bind": "127.0.0.1:8405", "uri": uri}
	}
	if bit(9) {
		haproxy["global"] = map[string]any{"maxconn": 1000, "threads": 2}
	}
	file, err := json.Marshal(map[string]any{"services": []any{service}, "haproxy": haproxy})
	if err != nil {
		return config.Config{}, err
	}
	return config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return file, nil }})
}

// fuzzedServers are servers of the IDs, which stand between zero bytes; the
// attributes say the rest of them.
func fuzzedServers(ids string, attributes []byte) (servers []plan.FileServer) {
	at := 0
	next := func() int {
		if len(attributes) == 0 {
			return 1
		}
		at++
		return int(attributes[at%len(attributes)])
	}
	names := map[string]bool{}
	for _, id := range strings.Split(ids, "\x00")[:min(strings.Count(ids, "\x00")+1, 200)] {
		node := ""
		if next()&1 == 1 {
			node = "n" + strconv.Itoa(next())
		}
		s := plan.FileServer{
			Name: catalog.ServerName(id, node), Weight: next() * next() % 257, MaxConn: next() * next(),
			Backup: next()&1 == 1, Disabled: next()&1 == 1,
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(next()), byte(next()), byte(next())}), uint16(1+next()*next())),
		}
		if next()&1 == 1 {
			s.Addr = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, byte(next()), byte(next()), 15: byte(next())}), s.Addr.Port())
		}
		if !names[s.Name] { // the catalog has each name once
			names[s.Name] = true
			servers = append(servers, s)
		}
	}
	return servers
}

// serversIn reads the servers of each backend out of a file, by the words of
// its lines.
func serversIn(t *testing.T, file string) map[string][]plan.FileServer {
	t.Helper()
	servers := map[string][]plan.FileServer{}
	section := ""
	for line := range strings.Lines(file) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if !strings.HasPrefix(line, " ") && words[0] != "#" {
			section = ""
			if words[0] == "backend" {
				section = words[1]
				servers[section] = nil
			}
		}
		if words[0] != "server" {
			continue
		}
		s := plan.FileServer{Name: words[1]}
		var err error
		if s.Addr, err = netip.ParseAddrPort(words[2]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for i, word := range words {
			switch word {
			case "weight":
				s.Weight, err = strconv.Atoi(words[i+1])
			case "maxconn":
				s.MaxConn, err = strconv.Atoi(words[i+1])
			case "backup":
				s.Backup = true
			case "disabled":
				s.Disabled = true
			}
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
		}
		servers[section] = append(servers[section], s)
	}
	return servers
}
