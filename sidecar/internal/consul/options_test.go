package consul_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		"a service named twice":              {services: []consul.Service{{Name: "a"}, {Name: "b"}, {Name: "a", Filter: "x"}}, errs: []string{`service "a": named twice`}},
		"a service with a line in its name":  {services: []consul.Service{{Name: "a\nb"}}, errs: []string{`service "a\nb"`}},
		"all of it at once":                  {options: consul.Options{Scheme: "x", WaitTime: -1}, services: []consul.Service{{}}, errs: []string{"scheme", "wait time", "without a name"}},
		"a CA file is not read without TLS":  {options: consul.Options{CAFile: "/nowhere.pem"}},
		"a token that is no header":          {options: consul.Options{Token: "se cret"}, errs: []string{"token: it holds a space"}},
		"an address with a user and a colon": {options: consul.Options{Address: "http://me:secret@x:1"}, errs: []string{"it holds a user"}},
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

func TestOptionsWithEnviron(t *testing.T) {
	all := []string{
		"PATH=/bin", "CONSUL_HTTP_ADDR=c:1", "CONSUL_HTTP_TOKEN=t", "CONSUL_HTTP_TOKEN_FILE=/t", "CONSUL_HTTP_AUTH=u:p",
		"CONSUL_HTTP_SSL=true", "CONSUL_HTTP_SSL_VERIFY=false", "CONSUL_CACERT=/ca", "CONSUL_CAPATH=/cas",
		"CONSUL_CLIENT_CERT=/cert", "CONSUL_CLIENT_KEY=/key", "CONSUL_TLS_SERVER_NAME=s", "CONSUL_NAMESPACE=n", "CONSUL_PARTITION=p",
	}
	fromAll := consul.Options{
		Address: "c:1", Token: "t", TokenFile: "/t", HTTPAuth: "u:p", Scheme: "https", InsecureSkipVerify: true, CAFile: "/ca", CAPath: "/cas",
		CertFile: "/cert", KeyFile: "/key", ServerName: "s", Namespace: "n", Partition: "p",
	}
	set := consul.Options{
		Address: "x", Token: "x", HTTPAuth: "x", Scheme: "http", CAFile: "x", CAPath: "x",
		CertFile: "x", KeyFile: "x", ServerName: "x", Namespace: "x", Partition: "x",
	}
	setVerified := set
	setVerified.InsecureSkipVerify = true // a Boolean cannot tell false from unset
	tests := map[string]struct {
		options consul.Options
		environ []string
		want    consul.Options
		errs    []string
	}{
		"all of the CLI's variables":             {environ: all, want: fromAll},
		"what is set stays":                      {options: set, environ: all, want: setVerified},
		"nothing there":                          {environ: []string{"CONSUL_HTTP_ADDR="}},
		"a file that is set keeps the token out": {options: consul.Options{TokenFile: "/mine"}, environ: []string{"CONSUL_HTTP_TOKEN=t"}, want: consul.Options{TokenFile: "/mine"}},
		"Booleans as Consul reads them":          {environ: []string{"CONSUL_HTTP_SSL=0", "CONSUL_HTTP_SSL_VERIFY=1"}},
		"Booleans that are none": {
			environ: []string{"CONSUL_HTTP_SSL=on", "CONSUL_HTTP_SSL_VERIFY=no", "CONSUL_HTTP_TOKEN=secret"},
			want:    consul.Options{Token: "secret"},
			errs:    []string{`CONSUL_HTTP_SSL: "on"`, `CONSUL_HTTP_SSL_VERIFY: "no"`},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tc.options.WithEnviron(tc.environ)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("options differ (-want +got):\n%s", diff)
			}
			if (err != nil) != (len(tc.errs) > 0) {
				t.Fatalf("error = %v, want %q", err, tc.errs)
			}
			for _, want := range tc.errs {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
					t.Errorf("error = %q, want %q in it and no secret", err, want)
				}
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
