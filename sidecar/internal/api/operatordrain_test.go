package api

import (
	"context"
	"errors"
	"testing"
)

func TestOperatorDrain_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	var a asking
	o := options()
	o.SetDrain = func(_ context.Context, service, server string, _ bool) (string, bool, error) {
		a.asked = append(a.asked, service, server)
		return "api-1", server == "slot-1", a.fails
	}
	slot, drain := []string{"api", "slot-1"}, "api/slot-1/drain"
	a.check(t, o, "/api/v1/server/", []actionCase{
		{name: "drain", method: "POST", path: drain, code: 200, body: `{"load_balancer":"lb\u003c0\u003e","service":"api","server":"api-1","drain":true}`, asks: slot},
		{name: "ready", method: "POST", path: "api/slot-1/ready", code: 200, body: `{"load_balancer":"lb\u003c0\u003e","service":"api","server":"api-1","drain":false}`, asks: slot},
		{name: "over loopback", method: "POST", path: drain, change: overTCP, code: 403},
		{name: "no such server", method: "POST", path: "api/none/drain", fails: errors.New("the service has no such server"), code: 404, body: `{"error":"the service has no such server"}`, asks: []string{"api", "none"}},
		{name: "not saved", method: "POST", path: drain, fails: errors.New("disk full"), code: 503, body: `{"error":"disk full"}`, asks: slot},
		{name: "another action", method: "POST", path: "api/slot-1/maint", code: 400},
		{name: "no server", method: "POST", path: "api//drain", code: 400},
		{name: "a method that reads", method: "GET", path: drain, code: 405},
	})
}
