package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/event"
)

// eventServer is a server with a log of events.
func eventServer(t *testing.T, o Options) (url string, log *event.Log) {
	t.Helper()
	o.Events = event.NewLog(time.Now())
	return start(t, o), o.Events
}

// following reads server-sent events, line by line.
type following struct {
	*testing.T
	resp  *http.Response
	lines *bufio.Scanner
}

func follow(t *testing.T, url, lastID string) *following {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &following{t, resp, bufio.NewScanner(resp.Body)}
}

// next returns the next line that says something.
func (f *following) next() string {
	f.Helper()
	for f.lines.Scan() {
		if line := f.lines.Text(); line != "" && !strings.HasPrefix(line, ":") {
			return line
		}
	}
	f.Fatalf("the stream has ended: %v", f.lines.Err())
	return ""
}

func (f *following) wants(lines ...string) {
	f.Helper()
	for _, want := range lines {
		if got := f.next(); !strings.Contains(got, want) {
			f.Fatalf("got the line %q, want %q in it", got, want)
		}
	}
}

func TestEvents_FollowerConnectsAgain_GoesOnAfterTheLastOne(t *testing.T) {
	url, log := eventServer(t, options())
	first := follow(t, url+"/api/v1/events?follow", "")
	if kind := first.resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("Content-Type %q", kind)
	}
	hostile := "api\n\ndata: forged\nid: 1"
	log.Add(time.Now(), event.Event{Kind: event.ServerUp, Server: "a"}, event.Event{Kind: event.StepFailed, Error: hostile})
	last := log.Last()
	first.wants(fmt.Sprintf("id: %d", last-1), `"kind":"server_up"`, fmt.Sprintf("id: %d", last))
	var e event.Event
	if err := json.Unmarshal([]byte(strings.TrimPrefix(first.next(), "data: ")), &e); err != nil || e.Error != hostile {
		t.Fatalf("got %+v, %v; want the text as it was registered", e, err)
	}
	log.Add(time.Now(), event.Event{Kind: event.ServerDown, Server: "a"})
	first.wants(fmt.Sprintf("id: %d", last+1), "server_down")

	// One that comes again says what it has, as browsers do or in the address.
	follow(t, url+"/api/v1/events?follow", fmt.Sprint(last)).wants(fmt.Sprintf("id: %d", last+1), "server_down")
	follow(t, url+"/api/v1/events?follow&after="+fmt.Sprint(last), "").wants(fmt.Sprintf("id: %d", last+1), "server_down")
	// One that had another sidecar's gets an event that says so.
	follow(t, url+"/api/v1/events?follow", "5").wants("event: missed", "data: {}", fmt.Sprintf("id: %d", last-1))
}

func TestEvents_ManyFollowers_AreBounded(t *testing.T) {
	url, log := eventServer(t, options())
	followers := make([]*following, 0, maxFollowers)
	for range maxFollowers {
		followers = append(followers, follow(t, url+"/api/v1/events?follow", ""))
	}
	refused := follow(t, url+"/api/v1/events?follow", "").resp
	body, _ := io.ReadAll(refused.Body)
	if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: got %d %s, want 503 and when to come again", refused.StatusCode, body)
	}
	if got := request(t, "GET", url+"/api/v1/events"); got.code != http.StatusOK {
		t.Errorf("a question meanwhile: got %d", got.code)
	}
	log.Add(time.Now(), event.Event{Kind: event.ServerUp})
	for _, f := range followers {
		f.wants("id: ", "server_up")
	}
	// A place that becomes free is taken.
	_ = followers[0].resp.Body.Close()
	deadline := time.Now().Add(10 * time.Second)
	for follow(t, url+"/api/v1/events?follow", "").resp.StatusCode != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the place of one that has gone stays taken")
		}
	}
}

func TestEvents_EachQuestion_IsAnsweredOrRefused(t *testing.T) {
	o := options()
	o.Access.Token = "hush"
	guarded, _ := eventServer(t, o)
	for _, path := range []string{"/api/v1/events", "/api/v1/events?follow"} {
		if got := request(t, "GET", guarded+path); got.code != http.StatusUnauthorized {
			t.Errorf("%s without the token: got %d, want 401", path, got.code)
		}
	}
	url, log := eventServer(t, options())
	for range 150 {
		log.Add(time.Now(), event.Event{Kind: event.ServerUp})
	}
	last := log.Last()
	for _, c := range []struct {
		method, query string
		code          int
		first, end    uint64 // numbers; 0: no events
		last          uint64
	}{
		{"GET", "", 200, last - 99, last, last},
		{"GET", "?limit=2", 200, last - 1, last, last},
		{"GET", fmt.Sprintf("?after=%d&limit=2", last-5), 200, last - 4, last - 3, last - 3},
		{"GET", fmt.Sprintf("?after=%d", last), 200, 0, 0, last},
		{"HEAD", "?follow", 200, 0, 0, 0},
		{"GET", "?after=-1", 400, 0, 0, 0},
		{"GET", "?limit=0", 400, 0, 0, 0},
		{"GET", "?limit=x", 400, 0, 0, 0},
		{"POST", "", 405, 0, 0, 0},
	} {
		got := request(t, c.method, url+"/api/v1/events"+c.query)
		var answer Events
		_ = json.Unmarshal([]byte(got.body), &answer) // a HEAD has none
		var first, end uint64
		if n := len(answer.Events); n > 0 {
			first, end = answer.Events[0].Seq, answer.Events[n-1].Seq
		}
		if got.code != c.code || first != c.first || end != c.end || answer.Last != c.last {
			t.Errorf("%s %q: got %d, %d to %d, last %d; want %d, %d to %d, last %d", c.method, c.query, got.code, first, end, answer.Last, c.code, c.first, c.end, c.last)
		}
	}
}
