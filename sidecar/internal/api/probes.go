package api

import "net/http"

// health answers whether the process is worth keeping: 200 while the agent's
// loop comes round, though Consul or HAProxy may be away, else 503. The summary is
// what Consul shows as the output of its check.
func health(alive func() error, summary func() string) http.Handler {
	type answer struct {
		Status string `json:"status"`
		State  string `json:"state,omitempty"`
		Reason string `json:"reason,omitempty"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := alive(); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, answer{Status: "stuck", Reason: err.Error()})
			return
		}
		ok := answer{Status: "ok"}
		if summary != nil {
			ok.State = summary()
		}
		writeJSON(w, http.StatusOK, ok)
	})
}

// readiness answers whether HAProxy runs what it should and can be reached: 200
// or 503. Nothing that keeps a load balancer in traffic may hang on it: HAProxy
// serves without the sidecar.
func readiness(ready func() (bool, string)) http.Handler {
	type answer struct {
		Ready  bool   `json:"ready"`
		Reason string `json:"reason,omitempty"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if is, reason := ready(); !is {
			writeJSON(w, http.StatusServiceUnavailable, answer{false, reason})
			return
		}
		writeJSON(w, http.StatusOK, answer{Ready: true})
	})
}
