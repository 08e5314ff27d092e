package haproxy

import (
	"strings"
	"testing"
)

func TestAnEndpointIsAPathOrAHostWithAPort(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]endpoint{
		"/run/haproxy/admin.sock":      {"unix", "/run/haproxy/admin.sock"},
		"unix@/run/haproxy/admin.sock": {"unix", "/run/haproxy/admin.sock"},
		"unix:admin.sock":              {"unix", "admin.sock"},
		"./admin.sock":                 {"unix", "./admin.sock"},
		"127.0.0.1:9999":               {"tcp", "127.0.0.1:9999"},
		"tcp@haproxy:9999":             {"tcp", "haproxy:9999"},
		"[::1]:9999":                   {"tcp", "[::1]:9999"},
	} {
		if got, err := parseEndpoint(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
}

func TestABadEndpointIsNamedInTheError(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                              "no address given",
		"unix@":                         "the path is empty",
		"admin.sock":                    `"admin.sock"`,
		"localhost:":                    "no port",
		"/" + strings.Repeat("x", 107):  "at most 107",
		"unix@/run/x\x00y":              "zero byte",
		"tcp@/run/haproxy/admin.sock":   "neither a path nor host:port",
		"abns@name-of-abstract-sockets": "neither a path nor host:port",
	} {
		if _, err := parseEndpoint(in); !strings.Contains(errText(err), want) {
			t.Errorf("%q: got %v, want %q in it", in, err, want)
		}
	}
}

func TestNewNamesTheOptionThatIsWrong(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"runtime socket":   {},
		"master socket":    {Runtime: "/r", Master: "x"},
		"reload command":   {Runtime: "/r", ReloadCommand: []string{""}},
		"timeout -1s":      {Runtime: "/r", Timeout: -1e9},
		"reload timeout -": {Runtime: "/r", ReloadTimeout: -1e9},
	} {
		if _, err := New(o); !strings.Contains(errText(err), want) {
			t.Errorf("%+v: got %v, want %q in it", o, err, want)
		}
	}
}
