package status

import "net/http"

// state answers with all that the agent knows; ?pretty indents it.
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
		write(w, http.StatusOK, body, indent)
	})
}
