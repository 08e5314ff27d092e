package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
)

// fleet answers with all load balancers; ?pretty indents it.
func fleet(get func(context.Context) any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		indent := ""
		if r.URL.Query().Has("pretty") {
			indent = "  "
		}
		write(w, http.StatusOK, get(r.Context()), indent)
	})
}

// recorded answers with what Consul has on record.
func recorded(get func(context.Context) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := get(r.Context())
		if err != nil {
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, body)
	})
}

// state answers with all that the agent knows; ?pretty indents it. A client
// that has this state already (If-None-Match) gets 304 and no body.
func state(get func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := get()
		if body == nil {
			writeJSON(w, http.StatusServiceUnavailable, problem{"no state yet"})
			return
		}
		indent := ""
		if r.URL.Query().Has("pretty") {
			indent = "  "
		}
		content, ok := encode(body, indent)
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(content) // the client may have gone
			return
		}
		digest := sha256.Sum256(content)
		tag := `"` + hex.EncodeToString(digest[:12]) + `"`
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(content) // the client may have gone
	})
}

// oneAtATime refuses a request while another one is answered: the answer is large.
func oneAtATime(h http.Handler) http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			h.ServeHTTP(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			writeJSON(w, http.StatusServiceUnavailable, problem{"another request for this is being answered"})
		}
	})
}
