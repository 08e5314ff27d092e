package status

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds how many gather the metrics at once; more get a 503.
const maxScrapes = 4

// routes is everything that the server answers.
func routes(o Options) (http.Handler, error) {
	index, err := indexPage(o.LoadBalancer, o.Version)
	if err != nil {
		return nil, fmt.Errorf("status: page: %w", err)
	}
	metrics := promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             writeTimeout / 2,
	})
	return readOnly(map[string]http.Handler{
		"/":             index,
		"/healthz":      health(o.Alive),
		"/readyz":       readiness(o.Ready),
		"/metrics":      metrics,
		"/api/v1/state": state(o.State),
	}), nil
}

// readOnly answers GET and HEAD on exactly these paths.
func readOnly(paths map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		handler, found := paths[r.URL.Path]
		switch {
		case !found:
			writeJSON(w, http.StatusNotFound, problem{"no such page"})
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			writeJSON(w, http.StatusMethodNotAllowed, problem{"only GET and HEAD are allowed"})
		default:
			handler.ServeHTTP(w, r)
		}
	})
}
