package consul_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

func TestNewNamesAllThatIsWrong(t *testing.T) {
	tests := map[string]struct {
		options  consul.Options
		services []consul.Service
		errs     []string // none for success
	}{
		"the zero value is good":             {},
		"host and port":                      {options: consul.Options{Address: "consul.example:8501"}},
		"a URL with a prefix":                {options: consul.Options{Address: "https://consul.example/proxy/"}},
		"a socket":                           {options: consul.Options{Address: "unix:///run/consul.sock"}},
		"an IPv6 address":                    {options: consul.Options{Address: "[::1]:8500"}},
		"a socket without a path":            {options: consul.Options{Address: "unix://"}, errs: []string{`"unix://"`}},
		"another protocol":                   {options: consul.Options{Address: "ftp://x"}, errs: []string{`address "ftp://x"`}},
		"an address with a query":            {options: consul.Options{Address: "x:1?token=y"}, errs: []string{"at most a path prefix"}},
		"an address that cannot be read":     {options: consul.Options{Address: "a b"}, errs: []string{"address: invalid character"}},
		"another scheme":                     {options: consul.Options{Scheme: "tcp"}, errs: []string{`scheme "tcp"`}},
		"a wait too short":                   {options: consul.Options{WaitTime: time.Millisecond}, errs: []string{"wait time 1ms: want 1s to 10m0s"}},
		"a wait too long":                    {options: consul.Options{WaitTime: time.Hour}, errs: []string{"wait time 1h0m0s"}},
		"a negative age":                     {options: consul.Options{MaxStale: -1}, errs: []string{"max stale -1ns"}},
		"a certificate without its key":      {options: consul.Options{CertFile: "c.pem"}, errs: []string{`client certificate "c.pem" and key ""`}},
		"a CA file that is not there":        {options: consul.Options{Scheme: "https", CAFile: "/nowhere.pem"}, errs: []string{`CA file "/nowhere.pem"`}},
		"a service without a name":           {services: []consul.Service{{}}, errs: []string{"without a name"}},
		"a service named twice":              {services: []consul.Service{{Name: "a"}, {Name: "b"}, {Name: "a", Filter: "x"}}, errs: []string{`service "a": its backend "a" is named twice`}},
		"a service with a line in its name":  {services: []consul.Service{{Name: "a\nb"}}, errs: []string{`service "a\nb"`}},
		"all of it at once":                  {options: consul.Options{Scheme: "x", WaitTime: -1}, services: []consul.Service{{}}, errs: []string{"scheme", "wait time", "without a name"}},
		"a CA file is not read without TLS":  {options: consul.Options{CAFile: "/nowhere.pem"}},
		"a token that is no header":          {options: consul.Options{Token: "se cret"}, errs: []string{"token: contains a space"}},
		"an address with a user and a colon": {options: consul.Options{Address: "http://me:secret@x:1"}, errs: []string{"contains a user"}},
		"a password and a bad port":          {options: consul.Options{Address: "http://me:secret@x:port"}, errs: []string{"address"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := consul.New(tc.options, tc.services)
			if (err != nil) != (len(tc.errs) > 0) {
				t.Fatalf("New = %v, want an error with %q", err, tc.errs)
			}
			for _, want := range tc.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New = %q, want %q in it", err, want)
				}
			}
			if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "se cret")) {
				t.Errorf("New = %q, which shows a secret", err)
			}
		})
	}
}

// TestEnvironmentItselfIsNotRead: what the process has in its environment must
// not count; the caller passes it in.
func TestEnvironmentItselfIsNotRead(t *testing.T) {
	for _, v := range []string{"CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_NAMESPACE", "CONSUL_CACERT", "CONSUL_CLIENT_CERT", "HTTP_PROXY"} {
		t.Setenv(v, "/from/the/environment")
	}
	t.Setenv("CONSUL_HTTP_SSL", "true")
	if _, err := consul.New(consul.Options{}, nil); err != nil {
		t.Errorf("New = %v, want no error", err)
	}
}
