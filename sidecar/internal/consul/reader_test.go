package consul

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

// register puts registrations into the catalog, by Consul's API.
func register(t *testing.T, address string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/v1/catalog/register", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("register: %s, %v", resp.Status, err)
		}
	}
}

func TestTheReaderTellsOfEveryRegistration(t *testing.T) {
	register := func(t *testing.T, address string) {
		register(t, address,
			`{"Node":"a","Address":"10.0.0.1","Service":{"ID":"api-1","Service":"api","Address":"10.0.0.9","Port":80,"Meta":{"version":"1.1","pointsman-drain":"2026-01-02T15:04:05Z"}},
			  "Check":{"Node":"a","CheckID":"c1","Name":"http","Status":"critical","Output":"refused","ServiceID":"api-1"}}`,
			`{"Node":"a","Address":"10.0.0.1","Service":{"ID":"api-2","Service":"api","Address":"api.example","Port":80,"Meta":{"version":"1.0"}}}`,
			`{"Node":"b","Address":"fd00::1","Service":{"ID":"s","Service":"pointsman-sidecar","Port":9600,"Meta":{"pointsman-lb":"lb0","pointsman-scheme":"https","pointsman-routes":"api,web"}}}`,
		)
	}
	mustTell := func(t *testing.T, address string) {
		r, err := NewReader(Options{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		report, err := r.Service(t.Context(), "api")
		if err != nil || report.Index == 0 || len(report.Entries) != 2 {
			t.Fatalf("got %+v, %v, want two entries", report, err)
		}
		one := report.Entries[0]
		if one.ID != "api-1" || one.Node != "a" || one.Address != "10.0.0.9:80" || one.Meta.Version != "1.1" || one.Meta.Leaving.IsZero() || one.Health != catalog.Critical || one.Rejected != nil {
			t.Errorf("got %+v", one)
		}
		if want := (ReportCheck{"http", "critical", "refused"}); len(one.Checks) != 1 || one.Checks[0] != want {
			t.Errorf("checks: got %+v, want %+v", one.Checks, want)
		}
		two := report.Entries[1]
		if two.ID != "api-2" || two.Address != "" || two.Rejected == nil || two.Meta.Version != "1.0" || two.Health != catalog.Passing {
			t.Errorf("got %+v, want one that is left out", two)
		}
		report, err = r.Service(t.Context(), "pointsman-sidecar")
		if err != nil || len(report.Entries) != 1 {
			t.Fatalf("got %+v, %v, want one entry", report, err)
		}
		s := report.Entries[0]
		if s.NoSidecar != nil || s.Sidecar.Balancer != "lb0" || !s.Sidecar.HTTPS || !s.Sidecar.MayRoute("web") || s.Address != "[fd00::1]:9600" {
			t.Errorf("got %+v", s)
		}
		if report, err = r.Service(t.Context(), "nothing"); err != nil || len(report.Entries) != 0 {
			t.Errorf("a service that is not there: got %+v, %v, want none", report, err)
		}
	}
	t.Run("fake", func(t *testing.T) {
		f := consultest.NewFake(t)
		register(t, f.Address())
		mustTell(t, f.Address())
	})
	t.Run("real", func(t *testing.T) {
		agent := consultest.StartProcess(t)
		register(t, agent.Address())
		mustTell(t, agent.Address())
	})
}

// Unknown is not empty: a deployment that counts old nodes must not hear of none.
func TestTheReaderTakesNoDoubtfulAnswerForOne(t *testing.T) {
	for name, c := range map[string]struct {
		header map[string]string
		code   int
		body   string
	}{
		"null":                  {body: "null"},
		"cut short":             {body: `[{"Node":`},
		"an error":              {code: 500, body: "[]"},
		"filtered by an ACL":    {header: map[string]string{"X-Consul-Results-Filtered-By-ACLs": "true"}, body: "[]"},
		"without a leader":      {header: map[string]string{"X-Consul-KnownLeader": "false"}, body: "[]"},
		"of an old follower":    {header: map[string]string{"X-Consul-LastContact": "100"}, body: "[]"},
		"without an index":      {header: map[string]string{"X-Consul-Index": "0"}, body: "[]"},
		"of another program":    {header: map[string]string{"X-Consul-Index": ""}, body: "[]"},
		"an ID that is no text": {body: `[{"Service":{"ID":7}}]`},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !r.URL.Query().Has("consistent") {
					t.Errorf("asked for %s, want the leader asked", r.URL)
				}
				for k, v := range map[string]string{"X-Consul-Index": "9", "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0"} {
					w.Header().Set(k, v)
				}
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(max(c.code, http.StatusOK))
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			r, err := NewReader(Options{Address: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if report, err := r.Service(context.Background(), "api"); err == nil || !strings.Contains(err.Error(), `service "api"`) {
				t.Errorf("got %+v, %v, want an error that names the service", report, err)
			}
		})
	}
	if _, err := NewReader(Options{Address: "unix://"}); err == nil {
		t.Error("NewReader with a bad address: got no error")
	}
	var e reportEntry
	if err := json.Unmarshal([]byte(`{"Checks":[{"CheckID":"c","Status":"passing","Name":"n","Output":"o"}]}`), &e); err != nil || e.Checks[0].Name != "n" || len(e.plain().Checks) != 1 {
		t.Errorf("got %+v, %v", e, err)
	}
}
