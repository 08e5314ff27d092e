package load_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pointsman/pointsman/services/client/internal/load"
)

// Any service can be measured: what a success is, its operator says.
func TestExpect_AnyService_AsSet(t *testing.T) {
	page := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Served-By", "web-1")
		w.Header().Set("X-Two", "a\tb")
		switch {
		case r.URL.Path == "/gone":
			w.WriteHeader(http.StatusNotFound)
		case r.Host == "shop.example.com" && r.Header.Get("X-Request-Id") != "" && r.URL.RawQuery == "":
			fmt.Fprint(w, "<title>Shop</title>"+strings.Repeat("x", 100<<10)+"far below")
		}
	}
	statuses := func(text string) func(int) bool {
		is, err := load.ParseStatuses(text)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	for name, c := range map[string]struct {
		path   string
		expect func(*load.Config)
		want   load.Cause // "" is none
		server string
	}{
		"by default any body":              {path: "/"},
		"a status":                         {path: "/gone", expect: func(c *load.Config) { c.Status = statuses("2xx, 404") }},
		"another status":                   {path: "/gone", expect: func(c *load.Config) { c.Status = statuses("2xx,403") }, want: load.Status},
		"2xx is not expected":              {path: "/", expect: func(c *load.Config) { c.Status = statuses("404") }, want: load.Status},
		"a body":                           {path: "/", expect: func(c *load.Config) { c.Body = regexp.MustCompile(`<title>S.op`) }},
		"another body":                     {path: "/", expect: func(c *load.Config) { c.Body = regexp.MustCompile(`<title>Other`) }, want: load.Body},
		"below what is looked at":          {path: "/", expect: func(c *load.Config) { c.Body = regexp.MustCompile(`far below`) }, want: load.Body},
		"a server's name":                  {path: "/", expect: func(c *load.Config) { c.ServerHeader = "X-Served-By" }, server: "web-1"},
		"a server's name that is not text": {path: "/", expect: func(c *load.Config) { c.ServerHeader = "X-Two" }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := inMemory(t, http.HandlerFunc(page))
				config.Echo, config.Host = false, "shop.example.com"
				config.Targets[0].Path = c.path
				var first []string
				config.OnServer = func(s load.Server) { first = append(first, s.Instance) }
				if c.expect != nil {
					c.expect(&config)
				}
				got := run(t, config)
				if got.Requests != 500 || got.Failed != 0 && c.want == "" || c.want != "" && got.Failures[c.want] != 500 {
					t.Errorf("got %d requests, failures %v, want 500, %q", got.Requests, got.Failures, c.want)
				}
				if strings.Join(first, " ") != c.server || c.server != "" && got.Instances[c.server] != 500 || c.server == "" && len(got.Instances) > 0 {
					t.Errorf("first responses of %q, counts %v, want %q", first, got.Instances, c.server)
				}
			})
		})
	}
}

func TestParseStatuses_NoStatus_IsRefused(t *testing.T) {
	for _, text := range []string{"", "20", "600", "1xx", "6xx", "xx", "2xx,", "-200", "ok", "99999999999999999999"} {
		if _, err := load.ParseStatuses(text); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}
