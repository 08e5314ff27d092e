package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

func TestAnswer_Hostile_RefusedBeforeItIsLarge(t *testing.T) {
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	numbered := func(n int, f func(int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i) + ",")
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	of := func(i int) string { return fmt.Sprintf(`{"name":"s%d","versions":[%s]}`, i, many(60, `{}`)) }
	for name, c := range map[string]struct{ text, want string }{
		"very many services":     {`{"services":[` + numbered(maxServices+1, func(i int) string { return fmt.Sprintf(`{"name":"%d"}`, i) }) + `]}`, "services: more than 5000"},
		"one service many times": {`{"services":[` + many(9, `{}`) + `]}`, `services: "" with backend "" twice`},
		"very many versions":     {`{"services":[{"versions":[` + many(65, `null`) + `]}]}`, "services: more than 64 versions of one"},
		"many of many":           {`{"services":[` + numbered(400, of) + `]}`, "or 20000 of all"},
		"very many reasons":      {`{"verdict":{"reasons":[` + many(21, `{}`) + `]}}`, "reasons: more than 20"},
		"no list":                {`{"services":{}}`, "services: want a list"},
		"no numbers":             {`{"services":[` + many(9, `0`) + `]}`, "services: json: "},
	} {
		var a Answer
		if err := json.Unmarshal([]byte(c.text), &a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A script that reads the answer counts on lists, and on a status that there is.
func TestAnswer_Sparse_ListsAndAStatus(t *testing.T) {
	for _, text := range []string{
		`{"load_balancer":"x","verdict":{"status":"behind"}}`, `{"verdict":{"status":"\u001b[2J","reasons":null},"services":null}`, `null`, `{}`,
		`{"services":[{"name":"api"},{"name":"mail","versions":null}],"verdict":{"reasons":[{"status":"x"}]}}`,
	} {
		var a Answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatal(text, err)
		}
		out, err := json.Marshal(a)
		if err != nil || strings.Contains(string(out), "null") || strings.Contains(string(out), `"status":""`) || strings.Contains(string(out), `u001b`) {
			t.Errorf("%s: %s, %v", text, out, err)
		}
	}
}

func TestAnswer_LongTexts_Cut(t *testing.T) {
	long := strings.Repeat("ä", 1000)
	s := summaryOf("lb1", 3, 9)
	s.Services[0].Name, s.Services[0].Versions[0].Version, s.HAProxy.Error = long, long, long
	s.Verdict.Reasons = []reconcile.Finding{{Text: long}}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{a.Services[0].Name, a.Services[0].Versions[0].Version, a.HAProxy.Error, a.Verdict.Reasons[0].Text} {
		if len(got) > maxText || !strings.HasSuffix(got, "ä…") {
			t.Errorf("%d bytes, %q", len(got), got)
		}
	}
}

// 1,000 services during a deployment of each: what Client.Summary takes is 1 MB.
func TestAnswer_AThousandServicesInTwoVersions_AreTaken(t *testing.T) {
	s := Summary{LoadBalancer: "lb1"}
	for i := range 1000 {
		name := fmt.Sprintf("a-service-with-a-long-name-%05d", i)
		v := Version{Version: "1.10.3-abcdef0", Listed: true, Total: 12, Live: 12, Weight: 1200, Sessions: 345}
		s.Services = append(s.Services, Service{Name: name, Backend: name, Index: 1 << 40, Versions: []Version{v, v}})
	}
	text, err := json.Marshal(s)
	if err != nil || len(text) > 512<<10 {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	var a Answer
	if err := json.Unmarshal(text, &a); err != nil || len(a.Services) != 1000 || len(a.Services[999].Versions) != 2 {
		t.Errorf("%d services, %v", len(a.Services), err)
	}
}

// A registration costs nothing: many of them must not take all memory.
func TestGather_SummariesTooLargeInAll_TheRestIsNotReached(t *testing.T) {
	var asked atomic.Int32
	g := gathererOf(nil, &asked)
	g.Members = func(context.Context) (all []Member, err error) {
		for i := range 100 {
			all = append(all, Member{Name: fmt.Sprintf("x%d", i), URL: "http://x"})
		}
		return all, nil
	}
	g.Ask = func(_ context.Context, m Member) (*Summary, error) {
		s := Summary{LoadBalancer: m.Name, Services: make([]Service, maxServices)}
		for i := range s.Services {
			s.Services[i].Name = fmt.Sprint(i)
		}
		return &s, nil
	}
	total, refused := 0, 0
	for _, lb := range g.Gather(t.Context()).LoadBalancers {
		if lb.Summary != nil {
			total += lb.Summary.size()
		} else if refused++; lb.Error != "the summaries of all load balancers take more than 20 MB" {
			t.Errorf("%s: %q", lb.Name, lb.Error)
		}
	}
	if total > maxAll+1000 || refused == 0 {
		t.Errorf("%d bytes are kept, %d refused", total, refused)
	}
}
