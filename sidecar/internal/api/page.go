package api

import (
	"embed"
	"fmt"
	"net/http"
	"path"
)

// pageFiles are the page as the browser gets it. They hold no data: the page
// asks the API for that.
//
//go:embed page
var pageFiles embed.FS

// pageFile is where the files are served, except index.html, which is at /.
const pageFile = "/ui/"

// pagePolicy lets the page load its own files and ask its own API, and nothing
// else. No markup that comes from the catalog can run.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// isPage reports whether a path is one of the page's files. They are answered
// without the token: a browser has none until the page has asked for it.
func isPage(p string) bool { return p == "/" || path.Dir(p)+"/" == pageFile }

// addPage adds the page's files to what is answered.
func addPage(paths map[string]http.Handler) error {
	entries, err := pageFiles.ReadDir("page")
	if err != nil {
		return fmt.Errorf("api: page: %w", err)
	}
	for _, e := range entries {
		content, err := pageFiles.ReadFile("page/" + e.Name())
		if err != nil {
			return fmt.Errorf("api: page: %w", err)
		}
		at := pageFile + e.Name()
		if e.Name() == "index.html" {
			at = "/"
		}
		paths[at] = page(mimeTypes[path.Ext(e.Name())], content)
	}
	return nil
}

// mimeTypes are those of the files, by extension. The system's table may differ.
var mimeTypes = map[string]string{
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".txt":  "text/plain; charset=utf-8", // licences
}

func page(kind string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Security-Policy", pagePolicy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		_, _ = w.Write(content) // the client may have gone
	})
}
