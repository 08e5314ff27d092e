package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/fleet"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/test/certtest"
)

func sampleFleet() fleet.Fleet {
	own := fleet.Summarize(sampleState(), sampleState().Verdict())
	return fleet.Fleet{
		By: "lb0", At: noon, Status: reconcile.Degraded,
		Reasons: []reconcile.Finding{{Status: reconcile.Degraded, Text: "lb1: not reachable: no answer within 2s\x1b[2J"}},
		LoadBalancers: []fleet.LoadBalancer{
			{Name: "lb0", Reached: true, Summary: &own, Differs: []string{"mail: x \x1b[2J"}},
			{Name: "lb1", Error: "no answer within 2s\x1b[2J"},
			{Name: "lb2", Stopped: noon.Add(-time.Minute)},
		},
	}
}

func TestStatusFleet_Tree_ShowsEveryLoadBalancer(t *testing.T) {
	var out strings.Builder
	tr := tree{out: &out, now: noon}
	tr.fleet(sampleFleet())
	want := `fleet  ! degraded  1 of 3 load balancers reached by lb0
├─ ! lb1: not reachable: no answer within 2s·[2J
├─ lb0  ! degraded  HAProxy 3.4.7, pid 42, old workers 1, reloads 2, failed 0, last 1m0s ago (service_added), Consul's oldest answer 5s ago, haproxy.cfg not current
│  ├─ ≠ mail: x ·[2J
│  ├─ api, backend b_api
│  │  ├─ 1.1  1 of 1 take traffic, 100% of the weight, sessions 0
│  │  └─ 1.0  0 of 1 take traffic, 0% of the weight, sessions 2, 1 draining
│  └─ mail
│     └─ "\x1b]0;t\a"  1 of 1 take traffic, 100% of the weight, sessions 0
├─ lb1  ✗ not reachable: no answer within 2s·[2J
└─ lb2  ✗ sidecar stopped 1m0s ago, HAProxy keeps running
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The sidecar that is asked has not checked the others' words, if it is an old one.
func TestStatusFleet_MadeUpStatus_PrintedAsText(t *testing.T) {
	var out strings.Builder
	tr := tree{out: &out, now: noon}
	f := sampleFleet()
	f.Status, f.LoadBalancers[0].Summary.Verdict.Status = "x\x1b[2J", "in_\x1b]0;step\a"
	tr.fleet(f)
	for _, want := range []string{"fleet  ! x·[2J  1 of 3", "lb0  ! in ·]0;step·  HAProxy"} {
		if !strings.Contains(out.String(), want) || strings.ContainsAny(out.String(), "\x1b\a") {
			t.Errorf("want %q:\n%q", want, out.String())
		}
	}
}

func TestStatusFleet_ExitCodes_AsTheWorstLoadBalancer(t *testing.T) {
	f := sampleFleet()
	at := `"` + served(t, api.Options{State: func() any { return nil }, Fleet: func(context.Context) any { return f }}) + `", socket: ""`
	for _, c := range []struct {
		args, out, errs string
		code            int
	}{
		{"status --fleet", "fleet  ! degraded", "", ExitDegraded},
		{"status --fleet --json", `"by": "lb0"`, "", ExitDegraded},
		{"status api --fleet", "└─ api, backend b_api", "", ExitDegraded},
		{"status b_api --fleet", "└─ api, backend b_api", "", ExitDegraded},
		{"status web --fleet", "", "status web: no load balancer that was reached routes the service", ExitFailure},
		{"status --fleet --watch", "fleet  ! degraded", "", ExitDegraded},
	} {
		code, out, errs := sidecar(t, at, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: %d, want %d\n%s%s", c.args, code, c.code, out, errs)
		}
	}
}

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
