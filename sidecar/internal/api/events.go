package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/event"
)

// The bounds of what is followed.
const (
	maxFollowers  = 64
	followFor     = time.Hour // then the client asks again, and shows its token again
	followIdle    = 15 * time.Second
	eventsAtOnce  = 256
	eventsDefault = 100
)

// Events is an answer of /api/v1/events.
type Events struct {
	LoadBalancer string `json:"load_balancer"`
	// Last is the number to ask for more after.
	Last   uint64        `json:"last"`
	Missed bool          `json:"missed"` // some after the number that was asked for are no longer kept
	Events []event.Event `json:"events"` // the oldest first
}

// events answers /api/v1/events: what happened after a number, or with ?follow
// also what happens, as server-sent events.
type events struct {
	name      string
	log       *event.Log
	followers chan struct{} // one value each
}

func newEvents(name string, log *event.Log) *events {
	return &events{name: name, log: log, followers: make(chan struct{}, maxFollowers)}
}

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	after, err := wholeNumber(r, "after", 0)
	limit, errLimit := wholeNumber(r, "limit", eventsDefault)
	follow := r.URL.Query().Has("follow")
	if id := r.Header.Get("Last-Event-ID"); follow && id != "" {
		after, err = strconv.ParseUint(id, 10, 64) // what a browser sends that connects again
	}
	if err != nil || errLimit != nil || limit == 0 {
		writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/events?after=NUMBER&limit=NUMBER or ?follow&after=NUMBER"})
		return
	}
	if follow {
		if after == 0 {
			after = e.log.Last()
		}
		streamTo(w, r, e.name, e.followers, func(send func(string) bool, end <-chan time.Time) { e.stream(r, after, send, end) })
		return
	}
	all, missed, _ := e.log.After(after, event.Capacity)
	answer := Events{LoadBalancer: e.name, Last: e.log.Last(), Missed: missed, Events: all}
	if n := int(min(limit, event.Capacity)); len(all) > n {
		if after == 0 {
			answer.Events = all[len(all)-n:] // the newest
		} else {
			answer.Events = all[:n]
		}
	}
	if len(answer.Events) > 0 {
		answer.Last = answer.Events[len(answer.Events)-1].Seq
	}
	writeJSON(w, http.StatusOK, answer)
}

// streamTo answers with server-sent events, at most maxStreams clients at a time. The
// stream that is given writes them, until the client, its time or the sidecar ends.
func streamTo(w http.ResponseWriter, r *http.Request, name string, followers chan struct{}, stream func(send func(string) bool, end <-chan time.Time)) {
	select {
	case followers <- struct{}{}:
		defer func() { <-followers }()
	default:
		w.Header().Set("Retry-After", "5")
		writeJSON(w, http.StatusServiceUnavailable, problem{fmt.Sprintf("%d clients follow already", maxFollowers)})
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	send := func(text string) bool {
		if control.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return false
		}
		_, err := w.Write([]byte(text))
		return err == nil && control.Flush() == nil
	}
	if !send(": " + name + "\n\n") {
		return
	}
	end := time.NewTimer(followFor)
	defer end.Stop()
	stream(send, end.C)
}

// stream sends what happened after a number, and what happens. A client that reads
// too slowly misses events and gets an event that says so.
func (e *events) stream(r *http.Request, after uint64, send func(string) bool, end <-chan time.Time) {
	idle := time.NewTicker(followIdle)
	defer idle.Stop()
	for {
		batch, missed, newer := e.log.After(after, eventsAtOnce)
		if len(batch) > 0 {
			after = batch[len(batch)-1].Seq
			if !send(stream(batch, missed)) {
				return
			}
			continue
		}
		select {
		case <-newer:
		case <-idle.C:
			if !send(":\n\n") { // so that a client that has gone is noticed
				return
			}
		case <-end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// stream writes events as the HTML standard has server-sent events. JSON has no
// line breaks, so a registered text cannot begin a field.
func stream(batch []event.Event, missed bool) string {
	var b strings.Builder
	if missed {
		b.WriteString("event: missed\ndata: {}\n\n")
	}
	for _, e := range batch {
		body, err := json.Marshal(e)
		if err != nil {
			continue // strings, a number and a time can always be encoded
		}
		fmt.Fprintf(&b, "id: %d\ndata: %s\n\n", e.Seq, body)
	}
	return b.String()
}
