package route_test

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/route"
)

func TestHost_EachSpelling_IsThatOfTheMap(t *testing.T) {
	for in, want := range map[string]string{
		"shop.example.com": "shop.example.com", "SHOP.Example.COM.": "shop.example.com",
		"*.Example.com": "*.example.com", "bücher.example": "xn--bcher-kva.example", "*.BÜCHER.example": "*.xn--bcher-kva.example",
		"localhost": "localhost", "192.0.2.1": "192.0.2.1", "xn--bcher-kva.example": "xn--bcher-kva.example",
	} {
		if got, err := route.ParseHost(in); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", ".", "*", "*.", "**.a", "a.*", "*a.test", "a_b.test", "a b", "a/b", "a\n", "a\x00", "a..b", "-a.test", "a;b", "a#b", `a\b`, "a:80", "[::1]",
		strings.Repeat("a", 64) + ".test", strings.Repeat("a.", 200), "xn--a", "ａ／b", "*.*.test",
	} {
		if got, err := route.ParseHost(in); err == nil {
			t.Errorf("%q is taken as %q", in, got)
		}
	}
}

func TestPath_EachSpelling_IsThatOfTheMap(t *testing.T) {
	for in, want := range map[string]string{"/": "", "/v1": "/v1", "/v1/": "/v1", "/a/b-c_d~e.f": "/a/b-c_d~e.f", "/%7Ea": "/%7Ea", "/@:$!": "/@:$!"} {
		if got, err := route.ParsePath(in); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "v1", "//", "/a//b", "/a//", "/..", "/a/./b", "/a b", "/a?b", "/a#b", "/a;b", `/a\b`, "/a\n", "/%", "/%7", "/%zz", "/ü", "/'", `/"`, "/" + strings.Repeat("p", 1024)} {
		if got, err := route.ParsePath(in); err == nil {
			t.Errorf("%q is taken as %q", in, got)
		}
	}
}

// What is taken can stand in a map file and on the runtime socket, and means itself
// when it is read again.
func FuzzHostAndPath(f *testing.F) {
	for _, seed := range [][2]string{{"*.bücher.example.", "/v1/"}, {"A.test", "/%7Ea"}, {"a\nb", "/a;b"}, {"xn--", "/.."}, {"a。b", "/"}, {"ｓhop.test", "/%2e%2e/"}, {"sh\u00adop.test", "/%00"}, {"xn--hop-.test", "/a%2Fb"}, {"a%2Eb", "//"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, host, path string) {
		h, errHost := route.ParseHost(host)
		p, errPath := route.ParsePath(path)
		if errHost == nil {
			if again, err := route.ParseHost(h); err != nil || again != h {
				t.Errorf("%q is %q, which is %q, %v", host, h, again, err)
			}
		}
		if errPath == nil && p != "" {
			if again, err := route.ParsePath(p); err != nil || again != p {
				t.Errorf("%q is %q, which is %q, %v", path, p, again, err)
			}
		}
		if errHost != nil || errPath != nil {
			return
		}
		key := route.Route{Host: h, Path: p}.Key()
		if i := strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`;\#"'?<`, r) }); i >= 0 {
			t.Errorf("key %q has a character that HAProxy would take otherwise", key)
		}
		if got, _ := (route.Map{key: "b"}).Lookup(strings.Replace(h, "*", "x", 1), p); got != key {
			t.Errorf("a request for %q %q finds %q", h, p, got)
		}
	})
}
