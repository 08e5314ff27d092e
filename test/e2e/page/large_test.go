package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// pageFiles are the page's, as the sidecar serves them.
const pageFiles = "../../../sidecar/internal/api/page/"

// A fleet of 10,000 servers must stay usable: few rows, and an answer to each key.
func TestPage_TenThousandServers_FewRowsAndFastSearch(t *testing.T) {
	instances := make([]map[string]any, 10000)
	for i := range instances {
		id := fmt.Sprintf("api-%d", i)
		instances[i] = map[string]any{
			"id": id, "node": "node", "server": id, "address": fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), "version": fmt.Sprintf("1.%d", i%2),
			"health": "passing", "phase": "up", "leaving": false, "weight": 1, "sessions": i,
		}
	}
	instances[7777]["phase"], instances[7777]["reason"] = "down", "HAProxy's check fails"
	service := map[string]any{"name": "api", "backend": "api", "instances": instances, "rejected": []any{}, "guard": map[string]any{}}
	state, err := json.Marshal(map[string]any{
		"load_balancer": "lb0", "services": []any{service}, "verdict": map[string]any{"status": "degraded", "reasons": []any{}},
		"haproxy": map[string]any{}, "consul": map[string]any{}, "file": map[string]any{}, "reloads": map[string]any{"succeeded": 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ui/", http.StripPrefix("/ui/", http.FileServer(http.Dir(pageFiles))))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, pageFiles+"index.html") })
	mux.HandleFunc("/api/v1/state", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(state) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	b := newBrowser(t.Context(), t)
	b.do("open the service", chromedp.Navigate(server.URL+"/#/service/api"))
	b.sees("the first rows, the worst first", `/api-7777/.test(document.querySelectorAll('#view table')[1]?.tBodies[0].rows[0].innerText)`)
	if n := read[int](b, `document.querySelectorAll('tr').length`); n > 120 {
		t.Errorf("the page has %d rows at a time", n)
	}
	took := read[float64](b, `(() => {
		const begun = performance.now();
		document.getElementById('search').value = 'api-123 1.1';
		document.getElementById('search').dispatchEvent(new Event('input'));
		return performance.now() - begun;
	})()`)
	if n := read[int](b, `document.querySelectorAll('#view table')[1].tBodies[0].rows.length`); n != 6 {
		t.Errorf("the search shows %d rows, want api-123 and five of api-1230 to api-1239", n)
	}
	if limit := time.Second; took > float64(limit.Milliseconds()) {
		t.Errorf("a key took %.0f ms to show, want less than %v", took, limit)
	}
	t.Logf("10,000 servers, %d bytes: a search took %.0f ms", len(state), took)
	b.do("the next page", chromedp.Navigate(server.URL+"/#/service/api?page=3"))
	b.sees("the third page", `/201–300 of 10,000/.test(document.querySelector('.pages').innerText)`)
}
