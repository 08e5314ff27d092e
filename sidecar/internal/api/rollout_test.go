package api

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestRollout_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	refused := errors.New("it is aborted already")
	var a asking
	o := options()
	o.RolloutChanges = []string{"abort", "pause", "promote"}
	o.ChangeRollout = func(_ context.Context, service, change string, seen time.Time) (any, bool, error) {
		asked := service + " " + change
		if !seen.IsZero() {
			asked += " " + seen.Format(time.RFC3339Nano)
		}
		a.asked = append(a.asked, asked)
		return map[string]string{"done": change}, errors.Is(a.fails, refused), a.fails
	}
	a.check(t, o, "/api/v1/rollouts/", []actionCase{
		{name: "abort", method: "POST", path: "api/abort", code: 200, body: `{"done":"abort"}`, asks: []string{"api abort"}},
		{name: "of the one that was seen", method: "POST", path: "api/promote?modified_at=2026-11-30T12:00:00.5Z", code: 200, body: `{"done":"promote"}`, asks: []string{"api promote 2026-11-30T12:00:00.5Z"}},
		{name: "over loopback", method: "POST", path: "api/abort", change: overTCP, code: 403},
		{name: "not allowed as it is", method: "POST", path: "api/abort", fails: refused, code: 409, body: `{"error":"it is aborted already"}`, asks: []string{"api abort"}},
		{name: "Consul is away", method: "POST", path: "api/pause", fails: errors.New("no answer"), code: 503, body: `{"error":"no answer"}`, asks: []string{"api pause"}},
		{name: "no such change", method: "POST", path: "api/set", code: 400},
		{name: "no service", method: "POST", path: "/abort", code: 400},
		{name: "more behind it", method: "POST", path: "api/abort/now", code: 400},
		{name: "no time", method: "POST", path: "api/abort?modified_at=yesterday", code: 400},
		{name: "a method that reads", method: "GET", path: "api/abort", code: 405},
	})
}
