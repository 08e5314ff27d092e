package consul

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func TestDecodeEntries(t *testing.T) {
	tests := map[string]struct {
		body string
		want int    // entries
		err  string // in the error
	}{
		"an empty list":               {body: "[]"},
		"an empty list with space":    {body: " [ ]\n"},
		"two":                         {body: `[{"Service":{"ID":"a","Port":1}},{"Service":{"ID":"b"}}]`, want: 2},
		"fields that are not used":    {body: `[{"Node":{"ID":"x","Meta":{"a":"b"}},"Service":{"Tags":["x"]},"Checks":[{"Output":"x"}]}]`, want: 1},
		"nothing":                     {body: "", err: "invalid JSON: unexpected EOF"},
		"null":                        {body: "null", err: "not a JSON list"},
		"an object":                   {body: "{}", err: "not a JSON list"},
		"a string":                    {body: `"[]"`, err: "not a JSON list"},
		"a page":                      {body: "<html>", err: "invalid JSON"},
		"cut before the end":          {body: "[", err: "unexpected EOF"},
		"cut after an element":        {body: `[{}`, err: "unexpected EOF"},
		"cut in an element":           {body: `[{"Service":{"ID":"a`, err: "element 0: unexpected EOF"},
		"an element of another type":  {body: `[{},7]`, err: "element 1"},
		"a port that is no number":    {body: `[{"Service":{"Port":"80"}}]`, err: "element 0"},
		"a port that overflows":       {body: `[{"Service":{"Port":99999999999999999999}}]`, err: "element 0"},
		"more after the end":          {body: "[] []", err: "goes on"},
		"garbage after the end":       {body: "[]}", err: "goes on"},
		"an element null is an entry": {body: "[null]", want: 1}, // and then rejected for its empty ID
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := newDecoder(nil).decode(strings.NewReader(tc.body), maxBody)
			if (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("decode %q: %v, want an error with %q", tc.body, err, tc.err)
			}
			if len(got) != tc.want {
				t.Errorf("%d entries, want %d", len(got), tc.want)
			}
		})
	}
}

func TestDecodeEntriesIsBounded(t *testing.T) {
	x := repeat('x')
	endless := io.MultiReader(strings.NewReader(`[{"Service":{"ID":"`), io.LimitReader(&x, 1<<20))
	if _, err := newDecoder(nil).decode(endless, 1<<16); err == nil || !strings.Contains(err.Error(), "larger than 65536 bytes") {
		t.Errorf("decode of an endless answer: %v, want an error that names the bound", err)
	}
}

type repeat byte

func (r *repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*r)
	}
	return len(p), nil
}

// FuzzAnswerBecomesSafeInstances: whatever an answer holds, what comes of it
// may reach HAProxy.
func FuzzAnswerBecomesSafeInstances(f *testing.F) {
	f.Add(`[]`)
	f.Add(`[{"Node":{"Node":"n1","Address":"10.0.0.1"},"Service":{"ID":"a","Port":80,"Weights":{"Passing":1,"Warning":1},"Meta":{"version":"1","maxconn":"7","backup":"t","pointsman-drain":"2026-01-02T15:04:05Z"}},"Checks":[{"CheckID":"serfHealth","Status":"passing"}]}]`)
	f.Add(`[{"Service":{"ID":"a b;c\n#","Address":"::1","Port":65535}},{"Service":{"ID":"a b;c\n#","Address":"1.2.3.4","Port":1}},{"Node":{"Node":"n"},"Service":{"ID":"slot-1","Address":"fe80::1%x","Port":1}}]`)
	f.Add(`[{"Service":{"ID":"-hdeadbeef0000","Address":"255.255.255.255","Port":1,"Weights":{"Passing":-9,"Warning":99999}},"Checks":[{"CheckID":"_service_maintenance:","Status":"x"}]},null]`)
	f.Fuzz(func(t *testing.T, body string) {
		all, err := newDecoder(nil).decode(strings.NewReader(body), maxBody)
		if err != nil {
			return
		}
		got := list(all, admission{})
		if len(got.instances)+len(got.rejected) != len(all) {
			t.Errorf("%d instances and %d rejected of %d entries", len(got.instances), len(got.rejected), len(all))
		}
		seen := make(map[string]bool)
		for _, i := range got.instances {
			if seen[i.Server] {
				t.Errorf("server %q twice", i.Server)
			}
			seen[i.Server] = true
			checkSafe(t, i)
		}
		if !slices.IsSortedFunc(got.instances, func(a, b catalog.Instance) int { return strings.Compare(a.Server, b.Server) }) {
			t.Errorf("instances are not sorted: %+v", got.instances)
		}
		entries, err := decodeList[entry](strings.NewReader(body), maxBody)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(entries)
		again := list(registrations(entries), admission{})
		if !(catalog.Service{Instances: got.instances, Rejected: got.rejected}).Equal(catalog.Service{Instances: again.instances, Rejected: again.rejected}) {
			t.Errorf("list depends on the order: %+v and %+v", got, again)
		}
	})
}

func checkSafe(t *testing.T, i catalog.Instance) {
	t.Helper()
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"
	if i.Server == "" || strings.Trim(i.Server, legal) != "" || strings.HasPrefix(i.Server, catalog.SlotPrefix) {
		t.Errorf("server %q is no legal name", i.Server)
	}
	if a := i.Addr.Addr(); !i.Addr.IsValid() || i.Addr.Port() == 0 || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Is4In6() {
		t.Errorf("address %v of %q", i.Addr, i.ID)
	}
	if i.Weight < 0 || i.Weight > 256 || i.MaxConn < 0 || i.MaxConn > 1_000_000 || len(i.Version) > 64 {
		t.Errorf("instance %+v out of bounds", i)
	}
}
