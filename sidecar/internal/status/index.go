package status

import (
	"bytes"
	_ "embed" // for the page
	"html/template"
	"net/http"
)

//go:embed index.html
var indexHTML string

// indexPage is the page at /: links to the rest. It never changes, so it is
// made once.
func indexPage(loadBalancer, version string) (http.Handler, error) {
	page, err := template.New("index.html").Parse(indexHTML)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	data := struct{ LoadBalancer, Version string }{loadBalancer, version}
	if err := page.Execute(&out, data); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_, _ = w.Write(out.Bytes()) // the client is gone; nobody is left to tell
	}), nil
}
