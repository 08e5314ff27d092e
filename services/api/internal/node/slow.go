package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	maxSlow        = 60 * time.Second // one /slow
	maxChunks      = 1000             // of one /stream
	maxChunkPause  = 10 * time.Second // between two of them
	maxStream      = 5 * time.Minute  // one /stream in all
	defaultSlow    = 1000 * time.Millisecond
	defaultChunks  = 10
	defaultBetween = 100 * time.Millisecond
)

// slow answers as "/" does for a GET, after ?ms= milliseconds.
func (n *Node) slow(w http.ResponseWriter, r *http.Request) {
	a, err := n.answer(r)
	if err != nil {
		n.refuse(w, a, err)
		return
	}
	delay, err := milliseconds(r.URL.Query(), "ms", defaultSlow, maxSlow)
	if err != nil {
		n.refuse(w, a, err)
		return
	}
	if pause(r.Context(), delay) {
		writeJSON(w, http.StatusOK, a)
	}
}

// chunk is one line of a stream.
type chunk struct {
	Instance string `json:"instance"`
	Version  string `json:"version"`
	ID       string `json:"id,omitempty"`
	Chunk    int    `json:"chunk"` // from 1
	Of       int    `json:"of"`    // so that a stream that was cut shows
}

// stream answers with ?chunks= lines of JSON, ?ms= milliseconds apart.
func (n *Node) stream(w http.ResponseWriter, r *http.Request) {
	a, err := n.answer(r)
	if err != nil {
		n.refuse(w, a, err)
		return
	}
	chunks, between, err := streamSize(r.URL.Query())
	if err != nil {
		n.refuse(w, a, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	client, encoder := http.NewResponseController(w), json.NewEncoder(w)
	for i := 1; i <= chunks; i++ {
		if i > 1 && !pause(r.Context(), between) {
			return
		}
		_ = client.SetWriteDeadline(time.Now().Add(patience))
		if encoder.Encode(chunk{n.instance, n.version, a.ID, i, chunks}) != nil || client.Flush() != nil {
			return // the client has gone away
		}
	}
}

func streamSize(query url.Values) (chunks int, between time.Duration, err error) {
	chunks = defaultChunks
	if text := query.Get("chunks"); text != "" {
		chunks, err = strconv.Atoi(text)
		if err != nil || chunks < 1 || chunks > maxChunks {
			return 0, 0, badRequest{fmt.Sprintf("query parameter chunks=%q: must be a whole number from 1 to %d", text, maxChunks)}
		}
	}
	between, err = milliseconds(query, "ms", defaultBetween, maxChunkPause)
	if err != nil {
		return 0, 0, err
	}
	if total := time.Duration(chunks-1) * between; total > maxStream {
		return 0, 0, badRequest{fmt.Sprintf("query parameters chunks=%d ms=%d: would take %s, at most %s is allowed", chunks, between.Milliseconds(), total, maxStream)}
	}
	return chunks, between, nil
}

// milliseconds reads a whole number of milliseconds.
func milliseconds(query url.Values, key string, missing, most time.Duration) (time.Duration, error) {
	text := query.Get(key)
	if text == "" {
		return missing, nil
	}
	number, err := strconv.ParseUint(text, 10, 32)
	d := time.Duration(number) * time.Millisecond
	if err != nil || d > most {
		return 0, badRequest{fmt.Sprintf("query parameter %s=%q: must be a whole number from 0 to %d", key, text, most.Milliseconds())}
	}
	return d, nil
}
