package api

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// pageLink is what a page loads or links to, in HTML and in modules.
var pageLink = regexp.MustCompile(`(?:href|src)="(/[^"]*)"|from '\./([^']*)'`)

func TestPage_EachFile_LoadsOnlyItsOwn(t *testing.T) {
	url := start(t, options())
	seen, next := map[string]bool{}, []string{"/"}
	for len(next) > 0 {
		path := next[0]
		next = next[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		got := request(t, "GET", url+path)
		if got.code != http.StatusOK {
			t.Errorf("GET %s: %d, want 200", path, got.code)
		}
		if path != "/" && !strings.HasPrefix(path, "/ui/") {
			continue
		}
		if policy := got.header.Get("Content-Security-Policy"); policy != pagePolicy {
			t.Errorf("GET %s: Content-Security-Policy %q, want %q", path, policy, pagePolicy)
		}
		if kind := got.header.Get("Content-Type"); !strings.HasSuffix(kind, "; charset=utf-8") {
			t.Errorf("GET %s: Content-Type %q", path, kind)
		}
		// The name of the SVG namespace, and a comment at the start of uPlot.
		if body := strings.TrimPrefix(got.body, "/*! https://github.com/leeoniya/uPlot"); strings.Contains(body, "://") && path != "/ui/main.js" {
			t.Errorf("%s names another host", path)
		}
		for _, sink := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "onclick"} {
			if strings.Contains(got.body, sink) {
				t.Errorf("%s uses %s: text from the catalog could become markup, and the policy forbids inline code", path, sink)
			}
		}
		for _, m := range pageLink.FindAllStringSubmatch(got.body, -1) {
			if m[2] != "" {
				m[1] = pageFile + m[2]
			}
			next = append(next, m[1])
		}
	}
	for _, want := range []string{"/ui/main.js", "/ui/views.js", "/ui/model.js", "/ui/dom.js", "/ui/page.css", "/ui/uplot.js", "/ui/uplot-license.txt", "/readyz", "/metrics"} {
		if !seen[want] {
			t.Errorf("the page does not lead to %s", want)
		}
	}
}

func TestPage_PolicyOfThePage_AllowsNoInlineCode(t *testing.T) {
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:"} {
		if !strings.Contains(pagePolicy, want) {
			t.Errorf("policy %q lacks %q", pagePolicy, want)
		}
	}
	if strings.Contains(pagePolicy, "unsafe") {
		t.Errorf("policy %q allows inline code", pagePolicy)
	}
}

func TestState_UnchangedState_NotSentAgain(t *testing.T) {
	o := options()
	body := map[string]any{"services": []string{"<script>alert(1)</script>"}}
	o.State = func() any { return body }
	url := start(t, o) + "/api/v1/state"
	ask := func(tag string) response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", tag)
		return send(t, req)
	}
	first := ask("")
	tag := first.header.Get("ETag")
	if first.code != http.StatusOK || tag == "" || strings.Contains(first.body, "<script>") {
		t.Fatalf("got %d, ETag %q, %q; want 200, an ETag and no markup", first.code, tag, first.body)
	}
	if again := ask(tag); again.code != http.StatusNotModified || again.body != "" || again.header.Get("ETag") != tag {
		t.Errorf("the same state: got %d %q, want 304 without a body", again.code, again.body)
	}
	body["services"] = []string{}
	if changed := ask(tag); changed.code != http.StatusOK || changed.header.Get("ETag") == tag {
		t.Errorf("another state: got %d with ETag %q, want 200 with another", changed.code, changed.header.Get("ETag"))
	}
}

func TestDecisions_AnotherIsAnswered_Refused(t *testing.T) {
	o := options()
	asked, goOn := make(chan struct{}), make(chan struct{})
	o.Decisions = func() any {
		close(asked)
		<-goOn
		return struct{}{}
	}
	url := start(t, o) + "/api/v1/decisions"
	done := make(chan response, 1)
	go func() { done <- request(t, http.MethodGet, url) }()
	<-asked
	if second := request(t, http.MethodGet, url); second.code != http.StatusServiceUnavailable || second.header.Get("Retry-After") == "" {
		t.Errorf("a second request: got %d, want 503 with Retry-After", second.code)
	}
	close(goOn)
	if first := <-done; first.code != http.StatusOK {
		t.Errorf("the first: got %d, want 200", first.code)
	}
}
