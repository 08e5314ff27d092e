package daemon

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/test/certtest"
)

// Anybody may register any address as a sidecar's: what answers there is not shown to those who
// can't reach it.
func TestFleet_NoSidecarThere_OneErrorAndTheReasonInTheLog(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	var log bytes.Buffer
	cfg := config.Config{Name: "lb0", API: config.API{Service: "pointsman-sidecar"}}
	cfg.Consul.Address = "127.0.0.1:1"
	all, err := newSidecars(cfg, func() consul.Addresses { return consul.Addresses{} }, hclog.New(&hclog.LoggerOptions{Output: &log}))
	if err != nil {
		t.Fatal(err)
	}
	g := newGatherer(cfg, all, func() fleet.Summary { return fleet.Summary{} })
	urls := map[string]string{"lb1": closed.URL}
	for name, answer := range map[string]string{"lb2": "SSH-2.0-x", "lb3": `{}`, "lb4": `{"load_balancer":"lb9"}`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		t.Cleanup(s.Close)
		urls[name] = s.URL
	}
	for name, url := range urls {
		for range 3 {
			if _, err := g.Ask(t.Context(), fleet.Member{Name: name, URL: url}); err == nil || err.Error() != errNoSidecar.Error() {
				t.Errorf("%s: %v, want %v", name, err, errNoSidecar)
			}
		}
	}
	if got := log.String(); strings.Count(got, "\n") != len(urls) || !strings.Contains(got, "connection refused") || !strings.Contains(got, "the load balancer lb9 answers there") {
		t.Errorf("the log:\n%s", got)
	}
}

// Loopback of another machine is not this one's, and would be asked on this one.
func TestFleet_LoopbackOfAnotherNodeAndDeniedAddress_NotAsked(t *testing.T) {
	registered := consultest.NewFake(t)
	for id, at := range map[string]string{"away": "127.0.0.1", "denied": "10.66.0.1", "good": "10.1.0.1"} {
		registered.Register(t, fmt.Sprintf(`{"Node":"another","Address":"10.1.0.9","Service":{"ID":%q,"Service":"pointsman-sidecar","Address":%q,"Port":9600,"Meta":{"pointsman-lb":%q}}}`, id, at, id))
	}
	cfg := config.Config{Name: "lb9", API: config.API{Service: "pointsman-sidecar"}}
	cfg.Consul.Address, cfg.Consul.Wait = registered.Address(), time.Minute
	rules := consul.Addresses{Deny: []netip.Prefix{netip.MustParsePrefix("10.66.0.0/16")}}
	g, err := newSidecars(cfg, func() consul.Addresses { return rules }, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	all, err := g.members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range all {
		got[m.Name] = m.URL + m.Problem
	}
	for name, want := range map[string]string{
		"good": "http://10.1.0.1:9600", "denied": "denied by 10.66.0.0/16 of addresses.deny", "away": "loopback addresses are accepted only from the Consul node of this machine",
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// Anybody may register as a sidecar. The token is for those only whose certificate
// an authority of the operator's has signed.
func TestFleet_Token_IsSentOverVerifiedTLSOnly(t *testing.T) {
	authority := certtest.New(t)
	stranger := certtest.New(t)
	var seen atomic.Value
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{"load_balancer":"lb1"}`))
	})
	plain := httptest.NewServer(answer)
	defer plain.Close()
	secure := func(a *certtest.Authority) string {
		s := httptest.NewUnstartedServer(answer)
		a.Sign("lb1")
		s.TLS = &tls.Config{Certificates: []tls.Certificate{a.Pair("lb1")}} //nolint:gosec // of a test
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	ca := authority.Path("ca.pem")
	for name, c := range map[string]struct {
		ca, url, token string
		fails          bool
	}{
		"plain HTTP, no authority": {"", plain.URL, "", false},
		"plain HTTP, an authority": {ca, plain.URL, "", true},
		"TLS of our authority":     {ca, secure(authority), "Bearer s3cret", false},
		"TLS of another authority": {ca, secure(stranger), "", true},
		"TLS, no authority is set": {"", secure(authority), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			seen.Store("")
			cfg := config.Config{Name: "lb0", API: config.API{Token: "s3cret", Service: "pointsman-sidecar", TLS: config.StatusTLS{CAFile: c.ca}}}
			cfg.Consul.Address = "127.0.0.1:1"
			all, err := newSidecars(cfg, func() consul.Addresses { return consul.Addresses{} }, hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			_, err = newGatherer(cfg, all, func() fleet.Summary { return fleet.Summary{} }).Ask(t.Context(), fleet.Member{Name: "lb1", URL: c.url})
			if (err != nil) != c.fails || seen.Load() != c.token {
				t.Errorf("error %v, token %q, want %q", err, seen.Load(), c.token)
			}
		})
	}
}
