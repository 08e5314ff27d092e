package render

import (
	"slices"
	"testing"
)

func TestIsOurs_ByHeaderOrMarker_OfAnyVersion(t *testing.T) {
	for content, want := range map[string]bool{
		"":                                     false,
		"global\n  log stdout\nfrontend web\n": false,
		"# setenv POINTSMAN_MARK 1.a.b.c\nglobal\n  # setenv POINTSMAN_MARK 1.a.b.c\n": false,
		"frontend f\n  setenv POINTSMAN_MARK 1.a.b.c\n":                                false,
		Header + "\nglobal\n": true,
		"# edited\nglobal\n  setenv POINTSMAN_MARK 1.a.b.c\n":             true,
		"global\n  nbthread 1\nglobal\n  setenv POINTSMAN_MARK 9.later\n": true,
	} {
		if got := IsOurs([]byte(content)); got != want {
			t.Errorf("%q: got %v, want %v", content, got, want)
		}
	}
}

func TestProxies_OfAFile_InItsOrder(t *testing.T) {
	got := Proxies([]byte("global\ndefaults d\nlisten l # x\nfrontend \"f\"\n  bind :80\n# backend no\npeers p\nbackend b from d\n"))
	if want := []string{"listen l", "frontend f", "backend b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
