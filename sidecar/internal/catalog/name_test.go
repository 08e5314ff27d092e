package catalog_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func TestServerName(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct{ name, id, node, want string }{
		{"a plain ID stays as it is", "api-1.example:4000_x", "", "api-1.example:4000_x"},
		{"one of 64 characters too", long, "", long},
		{"an ID that stands on several nodes gets a hash", "api-1", "node-a", "api-1-h"},
		{"a longer one is cut", long + "b", "", strings.Repeat("a", 50) + "-h"},
		{"so is one whose hash would make it too long", long[:50] + " ", "", long[:50] + "-h"},
		{"an empty ID", "", "", "_-h"},
		{"a slot's name", "slot-1", "", "_slot-1-h"},
		{"a slot's name alone", "slot-", "", "_slot--h"},
		{"an ID that its hash would make a slot's name", "slot", "node-a", "_slot-h"},
		{"a dot at the front", ".hidden", "", "_.hidden-h"},
		{"a colon at the front", ":80", "", "_:80-h"},
		{"an ID in commands", "#3", "", "_3-h"},
		{"a second command", "a; disable server b/s\n", "", "a__disable_server_b_s_-h"},
		{"letters beyond ASCII, one underscore for each", "größe", "", "gr__e-h"},
		{"no UTF-8 at all", "a\xff\xfeb", "", "a__b-h"},
		{"a name that looks hashed", "api-h0123456789ab", "", "api-h0123456789ab-h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := catalog.ServerName(c.id, c.node)
			if strings.HasSuffix(c.want, "-h") {
				got = withoutHash(t, got)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// The names are in HAProxy's file and in its state, on every load balancer: a
// new release that changed them would take every server out and in again.
func TestServerNameIsTheSameInEveryRelease(t *testing.T) {
	for _, c := range []struct{ id, node, want string }{
		{"api 1", "", "api_1-h8d462fe22308"},
		{"api-1", "node-a", "api-1-h0ca214b8fffd"},
		{"api-1", "node-b", "api-1-h59d37962b3b3"},
	} {
		if got := catalog.ServerName(c.id, c.node); got != c.want {
			t.Errorf("ServerName(%q, %q): got %q, want %q", c.id, c.node, got, c.want)
		}
	}
}

func withoutHash(t *testing.T, name string) string {
	t.Helper()
	i := len(name) - 12
	if i < 2 || strings.Trim(name[i:], "0123456789abcdef") != "" {
		t.Fatalf("got %q, want a hash of 12 digits at the end", name)
	}
	return name[:i]
}

// awkward draws strings in which the parts of a name meet.
func awkward() *rapid.Generator[string] {
	part := rapid.SampledFrom([]string{
		"", "a", "api-1", "slot-", "slot-1", "-h", "-h0123456789ab", "0123456789ab", "_", "\x00", "\x00\x00", " ", ".", ":", "ä", "\xff",
		strings.Repeat("a", 50), strings.Repeat("_", 50), strings.Repeat("\x00", 50), strings.Repeat("a", 64),
	})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(part, 0, 4).Draw(t, "parts"), "")
	})
}

func TestTwoInstancesNeverShareAServerName(t *testing.T) {
	type instance struct{ id, node string }
	// By hand: where only the border between node and ID differs.
	zeros := strings.Repeat("\x00", 60)
	pairs := [][2]instance{
		{{zeros + "\x00", ""}, {zeros, "\x00"}},
		{{"b", "a"}, {"ab", ""}},
		{{"a.b", ""}, {"a_b", ""}},
		{{"a b", ""}, {"a_b", ""}},
		{{"slot-1", ""}, {"_slot-1", ""}},
		{{catalog.ServerName("a b", ""), ""}, {"a b", ""}},
		{{catalog.ServerName("api-1", "node"), ""}, {"api-1", "node"}},
	}
	for _, p := range pairs {
		if a, b := catalog.ServerName(p[0].id, p[0].node), catalog.ServerName(p[1].id, p[1].node); a == b {
			t.Errorf("%q and %q: got %q for both, want two names", p[0], p[1], a)
		}
	}
	if t.Failed() {
		return // rapid wants a test that has not failed
	}
	rapid.Check(t, func(t *rapid.T) {
		owners := map[string]instance{}
		for range rapid.IntRange(2, 12).Draw(t, "count") {
			i := instance{awkward().Draw(t, "id"), rapid.SampledFrom([]string{"", "a", "\x00", "node-b"}).Draw(t, "node")}
			name := catalog.ServerName(i.id, i.node)
			if other, taken := owners[name]; taken && other != i {
				t.Fatalf("%q and %q: got %q for both, want two names", other, i, name)
			}
			owners[name] = i
			// Any program that sees the name may register under it.
			owners[catalog.ServerName(name, "")] = instance{name, ""}
		}
	})
}

func FuzzServerName(f *testing.F) {
	for _, id := range []string{"", "api-1", "slot-1", "a b;\n", "\xff", ".x", ":1", "api-h0123456789ab", strings.Repeat("ä", 99)} {
		f.Add(id, "")
		f.Add(id, "node")
	}
	f.Fuzz(func(t *testing.T, id, node string) {
		name := catalog.ServerName(id, node)
		if name != catalog.ServerName(id, node) {
			t.Fatal("two calls, two names")
		}
		if len(name) == 0 || len(name) > 64 {
			t.Errorf("got %d characters, want 1 to 64: %q", len(name), name)
		}
		for _, c := range []byte(name) {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:", rune(c)) {
				t.Errorf("got %q in %q, want HAProxy's legal characters only", c, name)
			}
		}
		if strings.HasPrefix(name, catalog.SlotPrefix) {
			t.Errorf("got a slot's name %q for %q", name, id)
		}
		if strings.HasPrefix(name, ".") || strings.HasPrefix(name, ":") {
			t.Errorf("got %q, want a letter, digit, '-' or '_' at the front", name)
		}
		if name == id && node != "" {
			t.Errorf("got the bare ID %q though it stands on several nodes", name)
		}
	})
}
