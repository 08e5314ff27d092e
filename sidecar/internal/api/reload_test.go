package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

func TestReload_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	stopped := errors.New("HAProxy does not run")
	var a asking
	o := options()
	o.RequestReload = func(_ context.Context, by string) (sidecarapi.ReloadRequest, bool, error) {
		a.asked = append(a.asked, by)
		return sidecarapi.ReloadRequest{Number: 3, By: by, At: time.Unix(1, 0).UTC(), Status: "due"}, errors.Is(a.fails, stopped), a.fails
	}
	unnamed, ann := []string{"API of lb<0>"}, []string{"ann@ops"}
	a.check(t, o, "/api/v1/reload", []actionCase{
		{name: "over the socket", method: "POST", path: "?by=ann@ops", code: 200, body: `{"load_balancer":"lb\u003c0\u003e","number":3,"by":"ann@ops","at":"1970-01-01T00:00:01Z","status":"due"}`, asks: ann},
		{name: "without a name", method: "POST", code: 200, asks: unnamed},
		{name: "a long name", method: "POST", path: "?by=" + strings.Repeat("x", 101), code: 400},
		{name: "over loopback", method: "POST", change: overTCP, code: 403},
		{name: "a page of another site", method: "POST", change: withHeader("Sec-Fetch-Site", "cross-site"), code: 403},
		{name: "no HAProxy", method: "POST", fails: stopped, code: 409, body: `{"error":"HAProxy does not run"}`, asks: unnamed},
		{name: "an agent that has no time", method: "POST", fails: errors.New("no time"), code: 503, body: `{"error":"no time"}`, asks: unnamed},
		{name: "a method that reads", method: "GET", code: 405},
		{name: "more behind it", method: "POST", path: "/now", code: 404},
	})
}
