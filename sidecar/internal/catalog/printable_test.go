package catalog_test

import (
	"strings"
	"testing"

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
