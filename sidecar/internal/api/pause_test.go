package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

func TestPause_Asked_AnsweredByService(t *testing.T) {
	o := options()
	want := sidecarapi.Pause{LoadBalancer: o.LoadBalancer, Service: "api", Until: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), Applied: true, AtServers: 1, Waiting: 2, Attempts: 3}
	o.Paused = func(_ context.Context, service string) (sidecarapi.Pause, bool, error) {
		switch service {
		case "api":
			return want, true, nil
		case "busy":
			return sidecarapi.Pause{}, true, errors.New("haproxy: no answer")
		}
		return sidecarapi.Pause{}, false, nil
	}
	paths, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(dispatch(paths))
	t.Cleanup(server.Close)
	c := sidecarapi.New(sidecarapi.Options{})
	to := sidecarapi.Target{LoadBalancer: o.LoadBalancer, URL: server.URL}
	if got, err := c.Pause(t.Context(), to, "api"); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := c.Pause(t.Context(), to, "mail"); !errors.Is(err, sidecarapi.ErrNotRouted) {
		t.Errorf("not routed: %v", err)
	}
	if _, err := c.Pause(t.Context(), to, "busy"); err == nil || errors.Is(err, sidecarapi.ErrNotRouted) {
		t.Errorf("HAProxy does not answer: %v", err)
	}
	to.LoadBalancer = "another"
	if _, err := c.Pause(t.Context(), to, "api"); err == nil {
		t.Error("the answer of another load balancer was taken")
	}
}

func TestPause_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	refused := errors.New("it cannot be paused")
	var a asking
	o := options()
	o.SetPause = func(_ context.Context, service string, hold time.Duration, reason string) (any, bool, error) {
		a.asked = append(a.asked, fmt.Sprint(service, " ", hold, " ", reason))
		return map[string]bool{"done": true}, errors.Is(a.fails, refused), a.fails
	}
	pause := "api/pause?hold=30s&reason=why"
	a.check(t, o, "/api/v1/service/", []actionCase{
		{name: "pause", method: "POST", path: pause, code: 200, body: `{"done":true}`, asks: []string{"api 30s why"}},
		{name: "resume", method: "POST", path: "api/resume", code: 200, body: `{"done":true}`, asks: []string{"api 0s "}},
		{name: "over loopback", method: "POST", path: pause, change: overTCP, code: 403},
		{name: "it cannot be", method: "POST", path: pause, fails: refused, code: 409, body: `{"error":"it cannot be paused"}`, asks: []string{"api 30s why"}},
		{name: "Consul is away", method: "POST", path: pause, fails: errors.New("no answer"), code: 503, body: `{"error":"no answer"}`, asks: []string{"api 30s why"}},
		{name: "for ever", method: "POST", path: "api/pause", code: 400},
		{name: "for a negative time", method: "POST", path: "api/pause?hold=-1s", code: 400},
		{name: "another action", method: "POST", path: "api/stop", code: 400},
		{name: "no service", method: "POST", path: "/resume", code: 400},
		{name: "a method that reads", method: "GET", path: pause, code: 405},
	})
}
