package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

func TestMaintenance_WithoutTokenOrSocket_IsForbidden(t *testing.T) {
	absent := errors.New("no health answer")
	var a asking
	o := options()
	o.SetMaintenance = func(_ context.Context, on bool) (bool, error) {
		a.asked = append(a.asked, strconv.FormatBool(on))
		return !errors.Is(a.fails, absent), a.fails
	}
	on, off := []string{"true"}, []string{"false"}
	a.check(t, o, "/api/v1/maintenance/", []actionCase{
		{name: "on", method: "POST", path: "on", code: 200, body: `{"load_balancer":"lb\u003c0\u003e","maintenance":true}`, asks: on},
		{name: "off", method: "POST", path: "off", code: 200, body: `{"load_balancer":"lb\u003c0\u003e","maintenance":false}`, asks: off},
		{name: "over loopback", method: "POST", path: "on", change: overTCP, code: 403},
		{name: "not in the file", method: "POST", path: "on", fails: errors.New("not updated"), code: 503, body: `{"error":"not updated"}`, asks: on},
		{name: "no health answer", method: "POST", path: "on", fails: absent, code: 404, body: `{"error":"no health answer"}`, asks: on},
		{name: "something else", method: "POST", path: "maybe", code: 400},
		{name: "a method that reads", method: "GET", path: "on", code: 405},
	})

	o.SetMaintenance = nil
	none, err := routes(o)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	dispatch(none).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/api/v1/maintenance/on", http.NoBody))
	if w.Code != http.StatusNotFound {
		t.Errorf("without a health answer: got %d, want 404", w.Code)
	}
}
