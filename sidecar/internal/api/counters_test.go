package api

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

func TestCounters_Asked_AnsweredByService(t *testing.T) {
	want := []sidecarapi.InstanceCounters{{Instance: "api-1", Node: "n", Backend: "api", Server: "api-1", Version: "1.1", Up: true, Requests: 9, Errors: 2, Retries: 1, ResponseTimeMS: 20}}
	answers := []sidecarapi.Answers{{Backend: "api", Requests: 9, Status4xx: 3, Service4xx: 1, Denied: 2, Status5xx: 6, Service5xx: 3, NoServer: 2, Broken: 1}}
	o := options()
	o.Counters = func(_ context.Context, service string) (sidecarapi.Counters, bool, error) {
		switch service {
		case "api":
			return sidecarapi.Counters{Instances: want, Answers: answers}, true, nil
		case "busy":
			return sidecarapi.Counters{}, true, errors.New("haproxy: no answer")
		}
		return sidecarapi.Counters{}, false, nil
	}
	paths, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(dispatch(paths))
	t.Cleanup(server.Close)
	c := sidecarapi.New(sidecarapi.Options{})
	to := sidecarapi.Target{LoadBalancer: o.LoadBalancer, URL: server.URL}
	got, err := c.Counters(t.Context(), to, "api")
	if diff := cmp.Diff(sidecarapi.Counters{LoadBalancer: o.LoadBalancer, Service: "api", Instances: want, Answers: answers}, got); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := c.Counters(t.Context(), to, "mail"); !errors.Is(err, sidecarapi.ErrNotRouted) {
		t.Errorf("not routed: %v", err)
	}
	if _, err := c.Counters(t.Context(), to, "busy"); err == nil || err.Error() != `status 503: "haproxy: no answer"` {
		t.Errorf("HAProxy is busy: %v", err)
	}
}
