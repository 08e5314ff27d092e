package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCounters_Asked_AnsweredByService(t *testing.T) {
	want := []InstanceCounters{{Instance: "api-1", Node: "n", Backend: "api", Server: "api-1", Version: "1.1", Up: true, Requests: 9, Errors: 2, Retries: 1, ResponseTimeMS: 20}}
	o := options()
	o.Counters = func(_ context.Context, service string) ([]InstanceCounters, bool, error) {
		switch service {
		case "api":
			return want, true, nil
		case "busy":
			return nil, true, errors.New("haproxy: no answer")
		}
		return nil, false, nil
	}
	paths, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(dispatch(paths))
	t.Cleanup(server.Close)
	c, err := NewClient(ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	to := Target{LoadBalancer: o.LoadBalancer, URL: server.URL}
	got, err := c.Counters(t.Context(), to, "api")
	if diff := cmp.Diff(ServiceCounters{LoadBalancer: o.LoadBalancer, Service: "api", Instances: want}, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := c.Counters(t.Context(), to, "mail"); !errors.Is(err, ErrNotRouted) {
		t.Errorf("not routed: %v", err)
	}
	if _, err := c.Counters(t.Context(), to, "busy"); err == nil || err.Error() != `status 503: "haproxy: no answer"` {
		t.Errorf("HAProxy is busy: %v", err)
	}
}

func TestCounters_HostileAnswer_Refused(t *testing.T) {
	c, err := NewClient(ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]string{
		`{"load_balancer":"lb9","service":"api","instances":[]}`:                                            `the load balancer "lb9" answers there`,
		`{"load_balancer":"lb0","service":"mail","instances":[]}`:                                           `the answer is about the service "mail"`,
		`{"load_balancer":"lb0","service":"api","instances":null}`:                                          "invalid answer: instances: want a list",
		`{"load_balancer":"lb0","service":"api"}`:                                                           "invalid answer: instances: want a list",
		`{"load_balancer":"lb0","service":"api","instances":[{"requests":-1}]}`:                             "invalid answer: instances: json: cannot unmarshal",
		`{"load_balancer":"lb0","service":"api","instances":[` + strings.Repeat(`{},`, maxCounted) + `{}]}`: "invalid answer: more than 20000 instances",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) }))
		_, err := c.Counters(t.Context(), Target{LoadBalancer: "lb0", URL: server.URL}, "api")
		server.Close()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %s", body, err, want)
		}
	}
}
