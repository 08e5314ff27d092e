package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequest: whatever is asked, the answer is one of the known codes, an
// /api answer is JSON that says about which service and instance it is, and
// no request is left waiting.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, path, query string }{
		{"GET", "/", ""},
		{"GET", "/healthz", ""},
		{"HEAD", "/readyz", ""},
		{"GET", "/metrics", "x=1"},
		{"GET", "/api/v1/state", ""},
		{"GET", "/api/v1/drain/api/api-1", "wait=30s"},
		{"GET", "/api/v1/drain/api/..%2f..%2fetc", ""},
		{"GET", "/api/v1/live/api", "version=1.1&count=3&wait=60s"},
		{"GET", "/api/v1/live/api", "count=-1&wait=99999h"},
		{"POST", "/api/v1/live/api", ""},
		{"GET", "/api/v1/drain/a\x00b/\n\r", "wait=%zz"},
		{"GET", "/../api/v1/state", ""},
		{"GET", "//healthz", ";"},
	} {
		f.Add(seed.method, seed.path, seed.query)
	}
	w := newWorld()
	o := options()
	o.Watch, o.Attend = w.watch, w.attend
	if err := o.check(); err != nil {
		f.Fatal(err)
	}
	paths, err := routes(o)
	if err != nil {
		f.Fatal(err)
	}
	codes := []int{http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed}
	f.Fuzz(func(t *testing.T, method, path, query string) {
		// As net/http makes a request of what comes from a socket; what it
		// refuses itself never arrives.
		target := path
		if query != "" {
			target += "?" + query
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || !isMethod(method) {
			return
		}
		// A client that has gone is waited for no longer.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := (&http.Request{Method: method, URL: u, Header: http.Header{}, Host: "x", RequestURI: target}).WithContext(ctx)
		rec := deadlineRecorder{httptest.NewRecorder()}
		dispatch(paths).ServeHTTP(rec, r)

		// The metrics give up on a client that has gone.
		gone := rec.Code == http.StatusServiceUnavailable && u.Path == "/metrics"
		if !slices.Contains(codes, rec.Code) && !gone {
			t.Errorf("%s %q: got %d", method, target, rec.Code)
		}
		if w.waiting != 0 {
			t.Errorf("%s %q: %d still count as waiting", method, target, w.waiting)
		}
		if rec.Code == http.StatusOK && method != http.MethodGet && method != http.MethodHead {
			t.Errorf("%s %q: got %d", method, target, rec.Code)
		}
		for name, values := range rec.Header() {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
				t.Errorf("%s %q: header %q: %q", method, target, name, values)
			}
		}
		if rec.Header().Get("Content-Type") == "application/json" {
			checkAnswer(t, u.Path, rec.Code, rec.Body.Bytes())
		}
	})
}

// isMethod is what net/http lets through (RFC 9110, a token).
func isMethod(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
	})
}

func checkAnswer(t *testing.T, path string, code int, body []byte) {
	t.Helper()
	if !json.Valid(body) || !utf8.Valid(body) {
		t.Fatalf("%q: the answer is no JSON: %q", path, body)
	}
	var answer struct{ Error, Service, Instance string }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%q: %v: %q", path, err, body)
	}
	if (code == http.StatusOK) == (answer.Error != "") {
		t.Errorf("%q: %d with error %q", path, code, answer.Error)
	}
	if len(answer.Error) > 1000 {
		t.Errorf("%q: an error of %d bytes", path, len(answer.Error))
	}
	rest, isDrain := strings.CutPrefix(path, "/api/v1/drain/")
	if isDrain && code == http.StatusOK {
		service, instance, _ := strings.Cut(rest, "/")
		if want := strings.ToValidUTF8(service, "\uFFFD"); utf8.ValidString(service) && answer.Service != want {
			t.Errorf("%q: the answer is about service %q", path, answer.Service)
		}
		if utf8.ValidString(instance) && answer.Instance != instance {
			t.Errorf("%q: the answer is about instance %q", path, answer.Instance)
		}
	}
}
