package consul

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// However an answer is cut into reads, its elements are those that encoding/json
// finds, and a value that is no list is an error for both.
func FuzzElements_AnyReads_SameAsEncodingJSON(f *testing.F) {
	for _, body := range []string{
		`[]`, ` [ {"a":"]\\\"}"} , 7 ,"x\\", null,[1,[2]],{} ]` + "\n", `[1,]`, `[,1]`, `[1 2]`, `[{]}]`, `[{"a":1}`, `["\\\\"]`, `["\\\""]x`, `[tru]`, `{"a":1}`,
	} {
		f.Add(body, uint8(1))
		f.Add(body, uint8(7))
	}
	f.Fuzz(func(t *testing.T, body string, chunk uint8) {
		var want []json.RawMessage
		wantErr := json.Unmarshal([]byte(body), &want)
		if strings.TrimSpace(body) == "null" {
			wantErr = errors.New("null is no list")
		}
		var got []json.RawMessage
		err := eachElement(&chunked{r: strings.NewReader(body), n: int(chunk) + 1}, maxBody, func(raw []byte) error {
			var one json.RawMessage
			if err := json.Unmarshal(raw, &one); err != nil {
				return err
			}
			got = append(got, slices.Clone(one))
			return nil
		})
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: got error %v, encoding/json %v", body, err, wantErr)
		}
		if err == nil && !cmp.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%q: got %q, want %q", body, got, want)
		}
	})
}

// chunked reads a few bytes at a time.
type chunked struct {
	r io.Reader
	n int
}

func (c *chunked) Read(p []byte) (int, error) { return c.r.Read(p[:min(c.n, len(p))]) }

func TestElements_ReadFails_ErrorIsKept(t *testing.T) {
	broken := errors.New("connection reset")
	err := eachElement(io.MultiReader(strings.NewReader(`[{"a":`), iotest.ErrReader(broken)), maxBody, func([]byte) error { return nil })
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

func TestDecoder_UnchangedEntries_AreNotDecodedAgain(t *testing.T) {
	d := newDecoder()
	decode := func(body []byte) []entry {
		t.Helper()
		entries, err := d.decode(strings.NewReader(string(body)), maxBody)
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	body := answerBody(100, -1)
	first := decode(body)
	allocations := testing.AllocsPerRun(5, func() { decode(body) })
	if perEntry := allocations / 100; perEntry > 1 {
		t.Errorf("%.0f allocations for an answer of 100 entries that is the same", allocations)
	}
	second := decode(answerBody(100, 42))
	fresh, err := newDecoder().decode(strings.NewReader(string(answerBody(100, 42))), maxBody)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fresh, second); diff != "" {
		t.Errorf("after a change (-fresh +got):\n%s", diff)
	}
	if cmp.Equal(first, second) {
		t.Error("the change is not there")
	}
}

// A failed answer must not be remembered: what it had is decoded again.
func TestDecoder_AnswerBreaksOff_NextOneIsWhole(t *testing.T) {
	d := newDecoder()
	body := string(answerBody(3, -1))
	if _, err := d.decode(strings.NewReader(body[:len(body)/2]), maxBody); err == nil {
		t.Fatal("half an answer is taken")
	}
	entries, err := d.decode(strings.NewReader(body), maxBody)
	if err != nil || len(entries) != 3 {
		t.Errorf("got %d entries, %v, want 3", len(entries), err)
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
			if _, err := newDecoder().decode(strings.NewReader(answers[i%2]), maxBody); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one changed", func(b *testing.B) {
		d := newDecoder()
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
	entries, err := newDecoder().decode(strings.NewReader(string(answerBody(10_000, -1))), maxBody)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		list(entries, admission{})
	}
}
