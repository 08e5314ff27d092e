package catalog_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a plain ID", "api-1", "api-1"},
		{"one with spaces", "api 1", "api 1"},
		{"letters beyond ASCII", "größe", "größe"},
		{"nothing", "", ""},
		{"a newline", "a\nb", `"a\nb"`},
		{"an escape sequence", "a\x1b[2J", `"a\x1b[2J"`},
		{"a right-to-left override", "a\u202eb", `"a\u202eb"`},
		{"no UTF-8", "a\xff", `"a\xff"`},
		{"a long one", strings.Repeat("a", 101), `"` + strings.Repeat("a", 100) + `"…`},
	} {
		if got := catalog.Printable(c.text); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestExcerpt_AnyText_OneBoundedPrintableLine(t *testing.T) {
	const most = 20
	for in, want := range map[string]string{
		"":                                "",
		"connection refused":              "connection refused",
		" HTTP GET:\n\n\t503\r\n":         "HTTP GET: 503",
		"\x1b[2Jgone":                     "\uFFFD[2Jgone",
		"\u202egnp.exe":                   "\uFFFDgnp.exe",
		"bad \xff byte":                   "bad \uFFFD byte",
		"exactly twenty bytes":            "exactly twenty bytes",
		"more than twenty bytes":          "more than twenty…",
		"ééééééééééé":                     "éééééééé…",
		strings.Repeat(" ", 100) + "late": "…",
		strings.Repeat("\x00", 50):        strings.Repeat("\uFFFD", 5) + "…",
	} {
		got := catalog.Excerpt(in, most)
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if len(got) > most || !utf8.ValidString(got) {
			t.Errorf("%q: got %d bytes, %q", in, len(got), got)
		}
	}
}
