package consul

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

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
	// So are those of one instance, before they are gathered, and those of all together.
	var entries []entry
	for n := range 3 {
		var tags []string
		for i := range 2 * MaxClaims {
			tags = append(tags, fmt.Sprintf("%sr%d-%d.example.com", hostile.TagPrefix, n, i))
		}
		entries = append(entries, claiming(fmt.Sprint("x", n), 1, tags, nil))
		if got := claims.of(&entries[n]); len(got) != MaxClaims {
			t.Errorf("%d claims of an instance, want %d", len(got), MaxClaims)
		}
	}
	if got := listClaiming(entries, claims).claims; len(got) != MaxClaims {
		t.Errorf("%d claims of a service, want %d", len(got), MaxClaims)
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
		if got, err := newNameDecoder(all).decode(strings.NewReader(in), 1000); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{``, `null`, `[]`, `"a"`, `{"a":["x"]`, `{"a":["x"`, `{"a":{}}`, `{"a":[1]}`, `{"a":[]} {}`, `{"a":[]}x`, `<html>`, `{"a":["` + strings.Repeat("x", 2000) + `"]}`} {
		if got, err := newNameDecoder(all).decode(strings.NewReader(in), 1000); err == nil {
			t.Errorf("%.40s: %q without an error", in, got)
		}
	}
	tags := map[string][]string{}
	got, err := newNameDecoder(func(name string, t []string) bool { tags[name] = t; return name == "a" }).decode(strings.NewReader(`{"a":["x","y"],"b":[]}`), 1000)
	if err != nil || !slices.Equal(got, []string{"a"}) || fmt.Sprint(tags) != "map[a:[x y] b:[]]" {
		t.Errorf("%q, %v, %v", got, tags, err)
	}
}

// Property: whatever answers come one after the other, each is read as if it were the only
// one, and what has not changed is not looked at again, in whatever order Consul gives tags.
func TestDecodeNames_OneAnswerAfterTheOther_SameAsAlone(t *testing.T) {
	isKept := func(_ string, tags []string) bool { return slices.Contains(tags, "x") }
	name, tags := rapid.SampledFrom([]string{"a", "b", "c", "d", "é", "a\"b"}), rapid.SliceOfN(rapid.SampledFrom([]string{"x", "y", "]}", `\"`}), 0, 2)
	rapid.Check(t, func(t *rapid.T) {
		looked := map[string]bool{}
		d := newNameDecoder(func(name string, tags []string) bool { looked[name] = true; return isKept(name, tags) })
		before := map[string][]string{}
		for range rapid.IntRange(1, 6).Draw(t, "answers") {
			clear(looked)
			now := rapid.MapOf(name, tags).Draw(t, "answer")
			for name, tags := range now {
				if was, had := before[name]; had && rapid.Bool().Draw(t, "same") {
					tags = rapid.Permutation(was).Draw(t, "order")
				}
				now[name] = append([]string{}, tags...)
			}
			text, err := json.Marshal(now)
			if rapid.Bool().Draw(t, "pretty") {
				text, err = json.MarshalIndent(now, "", "    ") // as a Consul of -dev
			}
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for name, tags := range now {
				if isKept(name, tags) {
					want = append(want, name)
				}
			}
			slices.Sort(want)
			if got, err := d.decode(strings.NewReader(string(text)), 1000); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %q, %v, want %q", text, got, err, want)
			}
			for name, tags := range now {
				if was, had := before[name]; had && slices.Equal(slices.Sorted(slices.Values(was)), slices.Sorted(slices.Values(tags))) == looked[name] {
					t.Errorf("%s: %q after %q, looked at: %v", name, tags, was, looked[name])
				}
			}
			before = now
		}
	})
}

// One of 1,000 services of ten tags has other ones.
func BenchmarkDecodeNames(b *testing.B) {
	answer := map[string][]string{}
	for k := range 1000 {
		for n := range 10 {
			name := fmt.Sprintf("svc%d", k)
			answer[name] = append(answer[name], fmt.Sprintf("pointsman-route=svc%d-%d.example.com/path", k, n))
		}
	}
	var texts [2][]byte
	for n := range texts {
		answer["svc7"] = []string{fmt.Sprintf("pointsman-route=svc7-%d.example.com", n)}
		for _, tags := range answer { // Consul gives them in any order
			slices.Reverse(tags)
		}
		texts[n], _ = json.MarshalIndent(answer, "", "    ")
	}
	d := newNameDecoder(func(_ string, tags []string) bool {
		return slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, "pointsman-route=") })
	})
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if got, err := d.decode(bytes.NewReader(texts[n%2]), maxBody); err != nil || len(got) != 1000 {
			b.Fatal(len(got), err)
		}
	}
}

func FuzzDecodeNames(f *testing.F) {
	for _, seed := range []string{`{"a":["b"]}`, `{"a":null}`, `{"`, `[]`, `{"a": [ "b" ,"c"] }`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := newNameDecoder(func(string, []string) bool { return true }).decode(strings.NewReader(in), 1<<16)
		var want map[string][]string
		if json.Unmarshal([]byte(in), &want) == nil && want != nil {
			if !slices.Equal(got, slices.Sorted(maps.Keys(want))) || err != nil {
				t.Errorf("%q: %q, %v, want %q", in, got, err, want)
			}
		} else if err == nil {
			t.Errorf("%q: %q without an error", in, got)
		}
	})
}
