package consul

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// sameListing compares what answers have become, errors by their words.
var sameListing = cmp.Options{
	cmp.AllowUnexported(listing{}), cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b catalog.Rejection) bool {
		return a.ID == b.ID && a.Node == b.Node && a.Err.Error() == b.Err.Error()
	}),
}

// plainly decodes an answer as a whole, and judges each entry by all rules: what the
// decoder must come to.
func plainly(t *testing.T, body string, tags []string, admits admission) listing {
	t.Helper()
	var entries []entry
	if err := json.Unmarshal([]byte(body), &entries); err != nil {
		t.Fatal(err)
	}
	var all []*registration
	for i := range entries {
		e := &entries[i]
		all = append(all, &registration{Instance: catalog.Instance{ID: e.Service.ID, Node: e.Node.Node}, entry: e, lacksTag: !e.hasTags(tags), output: outputOf(e.Checks)})
	}
	slices.SortStableFunc(all, (*registration).compare)
	return list(all, admits)
}

// Whatever changes from one answer to the next, and however they are cut into reads,
// they become what they become without any memory.
func TestDecoder_RandomEdits_SameAsPlainDecode(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	for range 30 {
		var tags []string
		if r.IntN(2) == 0 {
			tags = []string{"v1"}
		}
		admits := admission{isOwnNode: func(node, _ string) (bool, string) { return node == "node-1", "it is another" }}
		d := newDecoder(tags)
		var elements []string
		for range 12 {
			elements = edit(r, elements)
			body := "[" + strings.Join(elements, pick(r, ",", " ,\n", ", ")) + "]"
			all, err := d.decode(&chunked{r: strings.NewReader(body), n: 1 + r.IntN(5000)}, maxBody)
			if err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if diff := cmp.Diff(plainly(t, body, tags, admits), list(all, admits), sameListing); diff != "" {
				t.Fatalf("seed %d: (-plain +decoder):\n%s\nof %s", seed, diff, body)
			}
		}
	}
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// edit returns the elements of another answer: some changed, added, removed, doubled
// or at another place.
func edit(r *rand.Rand, elements []string) []string {
	elements = slices.Clone(elements)
	for range pick(r, 0, 1, 1, 2, 40) {
		at := r.IntN(len(elements) + 1)
		switch kind := r.IntN(6); {
		case kind < 2 || len(elements) == 0:
			elements = slices.Insert(elements, at, randomElement(r))
		case at == len(elements):
			slices.Reverse(elements)
		case kind == 2:
			elements = slices.Delete(elements, at, min(len(elements), at+1+r.IntN(20)))
		case kind == 3:
			elements[at] = randomElement(r)
		case kind == 4:
			elements = append(elements, elements[at])
		default:
			i := r.IntN(len(elements))
			elements[i], elements[at] = elements[at], elements[i]
		}
	}
	return elements
}

// randomElement is an entry of few different ones, so that some meet; some of it is
// hostile.
func randomElement(r *rand.Rand) string {
	quoted := func(of ...string) string {
		text, _ := json.Marshal(pick(r, of...))
		return string(text)
	}
	if r.IntN(40) == 0 {
		return pick(r, "null", "{}", `{"Service":{"ID":"`+strings.Repeat(`\\\"]},{[`, r.IntN(20_000))+`","Port":1}}`)
	}
	id := quoted("a", "b", "c", "d", "slot-1", "", `a"]},{`, strings.Repeat("long", 30), "\n\\", fmt.Sprint(r.IntN(60)))
	return fmt.Sprintf(`{"Node":{"Node":%s,"Address":%s,"Datacenter":"dc1"},"Service":{"Kind":%s,"ID":%s,"ID":%s,"Address":%s,"Port":%d,"Tags":[%s],"Meta":{"version":%s,"maxconn":%s,"backup":%s},"Weights":%s},"Checks":[{"CheckID":"c","Status":%s}]}`,
		quoted("node-1", "node-2", "node-3"), quoted("10.0.0.1", "127.0.0.1", ""), quoted("", "", "", "connect-proxy"), id, id,
		quoted("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "", "127.0.0.1", "127.0.0.9", "::1", "fe80::1%x", "[2001:db8::1]", "2001:DB8::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "[::1]", "169.254.1.1", "host.example", "x y"),
		pick(r, 80, 80, 80, 81, 0, 70_000), quoted("v1", "V1", "v2"), quoted("1.0", "2.0", "\x01"), quoted("", "7", "x"), quoted("", "true", "x"),
		pick(r, "null", `{"Passing":1,"Warning":1}`, `{"Passing":-3,"Warning":999}`), quoted("passing", "warning", "critical", "other"))
}

// FuzzDecoder_TwoAnswers_SameAsWithoutMemory: what an answer becomes, or that it
// is none, does not depend on the one before.
func FuzzDecoder_TwoAnswers_SameAsWithoutMemory(f *testing.F) {
	f.Add(`[{"Service":{"ID":"a","Port":1}},null]`, `[{"Service":{"ID":"a","Port":1}},nullx]`, uint8(1))
	f.Add(`[{"Service":{"ID":"a","Port":1}}]`, `[{"Service":{"ID":"a","Port":1}}`, uint8(9))
	f.Add(`[{"Service":{"ID":"a"}},{"Service":{"ID":"b"}}]`, `[{"Service":{"ID":"b"}},{"Service":{"ID":"a"}}]]`, uint8(200))
	f.Add(`[{"Service":{"ID":"\\\"}]"}}]`, `[{"Service":{"ID":"\\\"}]"}}x]`, uint8(3))
	f.Fuzz(func(t *testing.T, before, after string, chunk uint8) {
		d := newDecoder([]string{"v1"})
		// It may be none.
		_, _ = d.decode(strings.NewReader(before), maxBody)
		got, err := d.decode(&chunked{r: strings.NewReader(after), n: int(chunk) + 1}, maxBody)
		want, wantErr := newDecoder([]string{"v1"}).decode(strings.NewReader(after), maxBody)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q after %q: got error %v, without memory %v", after, before, err, wantErr)
		}
		if diff := cmp.Diff(list(want, admission{}), list(got, admission{}), sameListing); err == nil && diff != "" {
			t.Errorf("%q after %q (-without memory +got):\n%s", after, before, diff)
		}
	})
}

func TestDecoder_UnchangedEntries_AreNotDecodedAgain(t *testing.T) {
	d := newDecoder(nil)
	decode := func(body string) []*registration {
		t.Helper()
		all, err := d.decode(strings.NewReader(body), maxBody)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	const n = 1000
	body := string(answerBody(n, -1))
	decode(body)
	decodeAndList := func(body string) func() {
		return func() { list(decode(body), admission{}) }
	}
	if got := testing.AllocsPerRun(5, decodeAndList(body)); got > 20 {
		t.Errorf("%.0f allocations for an answer of %d entries that is the same", got, n)
	}
	bodies, i := [2]string{string(answerBody(n, 42)), string(answerBody(n, 43))}, 0
	if got := testing.AllocsPerRun(5, func() { decodeAndList(bodies[i%2])(); i++ }); got > 150 {
		t.Errorf("%.0f allocations for an answer of %d entries, of which two are others", got, n)
	}
}

// What has gone or come in the middle does not make what is behind it new.
func TestDecoder_EntriesMove_AreNotDecodedAgain(t *testing.T) {
	var elements []string
	for i := range 300 {
		elements = append(elements, fmt.Sprintf(`{"Node":{"Node":"n%d"},"Service":{"ID":"a%d","Address":"10.0.0.1","Port":80}}`, i, i))
	}
	for name, next := range map[string][]string{
		"one has gone":     slices.Delete(slices.Clone(elements), 10, 11),
		"many have gone":   slices.Delete(slices.Clone(elements), 10, 210),
		"one has come":     slices.Insert(slices.Clone(elements), 10, `{"Service":{"ID":"new"}}`),
		"in another order": func() []string { r := slices.Clone(elements); slices.Reverse(r); return r }(),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDecoder(nil)
			decode := func(elements []string) []*registration {
				t.Helper()
				all, err := d.decode(strings.NewReader("["+strings.Join(elements, ",")+"]"), maxBody)
				if err != nil {
					t.Fatal(err)
				}
				return all
			}
			before := map[*registration]bool{}
			for _, r := range decode(elements) {
				before[r] = true
			}
			for _, r := range decode(next) {
				if !before[r] && r.ID != "new" {
					t.Errorf("%s was decoded again", r.ID)
				}
			}
		})
	}
}

// A failed answer must not be remembered: what it had is decoded again.
func TestDecoder_AnswerBreaksOff_NextOneIsWhole(t *testing.T) {
	d := newDecoder(nil)
	body := string(answerBody(3, -1))
	if _, err := d.decode(strings.NewReader(body[:len(body)/2]), maxBody); err == nil {
		t.Fatal("half an answer is taken")
	}
	for range 2 {
		all, err := d.decode(strings.NewReader(body), maxBody)
		if err != nil || len(all) != 3 {
			t.Errorf("got %d entries, %v, want 3", len(all), err)
		}
		if _, err := d.decode(strings.NewReader(body[:len(body)/2]), maxBody); err == nil {
			t.Fatal("half an answer is taken, now that the whole is known")
		}
	}
}

// answerBody is an answer as Consul gives it, with checks and meta. The entry
// with the number changed has another weight.
func answerBody(n, changed int) []byte {
	var out strings.Builder
	out.WriteString("[")
	for i := range n {
		if i > 0 {
			out.WriteString(",")
		}
		weight := 1
		if i == changed {
			weight = 7
		}
		fmt.Fprintf(&out, `{"Node":{"ID":"7b0fbd3c-1b16-4f4a-9a07-%012d","Node":"node-%d","Address":"10.1.%d.%d","Datacenter":"dc1","TaggedAddresses":{"lan":"10.1.0.1","wan":"10.1.0.1"},"Meta":{"consul-network-segment":"","consul-version":"1.22.7"},"CreateIndex":12,"ModifyIndex":14},`+
			`"Service":{"ID":"api-%d","Service":"api","Tags":["v1"],"Address":"10.2.%d.%d","TaggedAddresses":{"lan_ipv4":{"Address":"10.2.0.1","Port":4000},"wan_ipv4":{"Address":"10.2.0.1","Port":4000}},"Meta":{"version":"1.0"},"Port":4000,"Weights":{"Passing":%d,"Warning":1},"EnableTagOverride":false,"Proxy":{"Mode":"","MeshGateway":{},"Expose":{}},"Connect":{},"PeerName":"","CreateIndex":%d,"ModifyIndex":%d},`+
			`"Checks":[{"Node":"node-%d","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing","Notes":"","Output":"Agent alive and reachable","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Interval":"","Timeout":"","ExposedPort":0,"Definition":{},"CreateIndex":12,"ModifyIndex":12},`+
			`{"Node":"node-%d","CheckID":"service:api-%d","Name":"Service 'api' check","Status":"passing","Notes":"","Output":"HTTP GET http://10.2.0.1:4000/healthz: 200 OK Output: {\"ok\":true}","ServiceID":"api-%d","ServiceName":"api","ServiceTags":["v1"],"Type":"http","Interval":"1s","Timeout":"1s","ExposedPort":0,"Definition":{},"CreateIndex":15,"ModifyIndex":16}]}`,
			i, i, i/250, i%250, i, i/250, i%250, weight, i, i+weight, i, i, i, i)
	}
	out.WriteString("]")
	return []byte(out.String())
}

// BenchmarkDecode: a service of 10,000 instances in which one has changed,
// decoded from scratch, and by a decoder that knows the answer before.
func BenchmarkDecode(b *testing.B) {
	answers := [2]string{string(answerBody(10_000, 1)), string(answerBody(10_000, 2))}
	b.Run("from scratch", func(b *testing.B) {
		b.SetBytes(int64(len(answers[0])))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := newDecoder(nil).decode(strings.NewReader(answers[i%2]), maxBody); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one changed", func(b *testing.B) {
		d := newDecoder(nil)
		if _, err := d.decode(strings.NewReader(answers[1]), maxBody); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(answers[0])))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := d.decode(strings.NewReader(answers[i%2]), maxBody); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkList: what the entries of 10,000 instances become.
func BenchmarkList(b *testing.B) {
	all, err := newDecoder(nil).decode(strings.NewReader(string(answerBody(10_000, -1))), maxBody)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		list(all, admission{})
	}
}
