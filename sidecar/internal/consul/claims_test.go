package consul

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/test/hostile"
)

// claiming is an entry that claims.
func claiming(id string, index uint64, tags []string, meta map[string]string) entry {
	e := at(id, "n1")
	e.Service.CreateIndex, e.Service.Tags, e.Service.Meta = index, tags, meta
	return e
}

// listClaiming is list with what the entries claim.
func listClaiming(entries []entry, claims Claims) listing {
	all := registrations(entries)
	for _, r := range all {
		r.claims = claims.of(&entries[slices.IndexFunc(entries, func(e entry) bool { return e.Service.ID == r.ID })])
	}
	return list(all, abroad)
}

func TestClaims_OfInstances_AreGatheredWithTheLowestIndex(t *testing.T) {
	claims := Claims{Tags: []string{"route="}, Meta: []string{"route", "profile"}}
	bad := claiming("bad", 1, []string{"route=bad.test"}, nil)
	bad.Service.Port = 0
	entries := []entry{
		claiming("a", 7, []string{"v1", "route=a.test", "route=a.test"}, map[string]string{"route": "b.test", "note": "x"}),
		claiming("b", 5, []string{"route=a.test"}, map[string]string{"profile": "slow"}),
		bad, // its claims do not count: it gets no traffic
	}
	want := []catalog.Claim{{Text: "route=a.test", Since: 5}, {Meta: "profile", Text: "slow", Since: 5}, {Meta: "route", Text: "b.test", Since: 7}}
	for range 2 {
		if diff := cmp.Diff(want, listClaiming(entries, claims).claims); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		slices.Reverse(entries)
	}
	if got := listClaiming(entries, Claims{}).claims; got != nil {
		t.Errorf("unasked: %v", got)
	}
	if !lostClaim(want, want[1:]) || lostClaim(want[1:], want) {
		t.Error("a claim that is gone is not noticed")
	}
}

// The first of three levels: see package hostile. The claims that stay are bounded.
func TestClaims_Hostile_AreBounded(t *testing.T) {
	claims := Claims{Tags: []string{hostile.TagPrefix, "urlprefix-"}, Meta: []string{hostile.MetaKey}}
	for _, c := range hostile.Claims() {
		got := listClaiming([]entry{claiming("x", 1, c.Tags, c.Meta)}, claims)
		if len(got.instances) != 1 || len(got.claims) == 0 || len(got.claims) > MaxClaims {
			t.Errorf("%s: %d instances, %d claims", c.Why, len(got.instances), len(got.claims))
		}
	}
	long := listClaiming([]entry{claiming("x", 1, []string{hostile.TagPrefix + strings.Repeat("a", 1<<20)}, nil)}, claims).claims
	if len(long) != 1 || len(long[0].Text) != maxClaimText {
		t.Errorf("a tag of 1 MB: %d claims", len(long))
	}
}

func TestDecodeNames_EachAnswer_IsWholeOrAnError(t *testing.T) {
	all := func(string, []string) bool { return true }
	for in, want := range map[string][]string{
		`{}`: nil, `{"b":["x"],"a":[],"c":null}`: {"a", "b", "c"}, `{"a":[],"a":[]}`: {"a"},
	} {
		if got, err := decodeNames(strings.NewReader(in), 1000, all); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{``, `null`, `[]`, `"a"`, `{"a":["x"]`, `{"a":["x"`, `{"a":{}}`, `{"a":[1]}`, `{"a":[]} {}`, `{"a":[]}x`, `<html>`, `{"a":["` + strings.Repeat("x", 2000) + `"]}`} {
		if got, err := decodeNames(strings.NewReader(in), 1000, all); err == nil {
			t.Errorf("%.40s: %q without an error", in, got)
		}
	}
	tags := map[string][]string{}
	got, err := decodeNames(strings.NewReader(`{"a":["x","y"],"b":[]}`), 1000, func(name string, t []string) bool { tags[name] = t; return name == "a" })
	if err != nil || !slices.Equal(got, []string{"a"}) || fmt.Sprint(tags) != "map[a:[x y] b:[]]" {
		t.Errorf("%q, %v, %v", got, tags, err)
	}
}

func FuzzDecodeNames(f *testing.F) {
	for _, seed := range []string{`{"a":["b"]}`, `{"a":null}`, `{"`, `[]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := decodeNames(strings.NewReader(in), 1<<16, func(string, []string) bool { return true })
		if err == nil && (!slices.IsSorted(got) || len(got) > len(in)) || err != nil && got != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	})
}
