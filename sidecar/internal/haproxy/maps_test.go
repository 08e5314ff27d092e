package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/route"
)

// mapped starts HAProxy with a map in which it looks up host and path, and answers
// with what it finds.
func mapped(t *testing.T, content string) (c *Client, file, url string, p *haproxytest.Process) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "web.map")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	front := haproxytest.FreeAddr(t).String()
	p = haproxytest.StartWith(t, marked(testMark), fmt.Sprintf("frontend f\n  bind %s\n  http-request set-var(txn.p) path\n"+
		"  http-request return status 200 content-type text/plain lf-string \"%%[req.hdr(host),concat(,txn.p,/),map_beg(%s,none)]\"\n", front, file))
	c, err := New(Options{Runtime: p.Runtime(), Master: p.Master()})
	if err != nil {
		t.Fatal(err)
	}
	return c, file, "http://" + front, p
}

func ask(ctx context.Context, url, host, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestMaps_OneKeyAndSeveral_AreWhatIsWanted(t *testing.T) {
	t.Parallel()
	c, file, url, p := mapped(t, "a.test/ a\na.test/v1/ v1/1\n")
	large := route.Map{"a.test/": "a"}
	for i := range 2000 { // several lines of commands
		large[fmt.Sprintf("host%d.example.com/path/", i)] = fmt.Sprintf("backend-%d", i)
	}
	for _, step := range []struct {
		name    string
		want    route.Map
		path    string
		finds   string
		replace bool
	}{
		{"nothing", route.Map{"a.test/": "a", "a.test/v1/": "v1/1"}, "/v1/x", "v1/1", false},
		{"one changed", route.Map{"a.test/": "a", "a.test/v1/": "new"}, "/v1/x", "new", false},
		{"one added", route.Map{"a.test/": "a", "a.test/v1/": "new", "a.test/v1/deep/": "deep"}, "/v1/deep", "deep", false},
		{"one removed", route.Map{"a.test/": "a", "a.test/v1/deep/": "deep"}, "/v1/x", "a", false},
		{"several", route.Map{"a.test/": "b", "a.test/v2/": "v2"}, "/v2", "v2", true},
		{"many", large, "/v2", "a", true},
		{"none", route.Map{}, "/", "none", true},
		{"the first", route.Map{"a.test/": "a"}, "/", "a", false},
		{"the last", route.Map{}, "/", "none", false},
	} {
		have, err := c.ReadMap(t.Context(), file)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		u := route.UpdateOf(have, step.want.Table())
		if u.Replace != step.replace {
			t.Errorf("%s: replace is %v", step.name, u.Replace)
		}
		if err := c.UpdateMap(t.Context(), file, u, step.want.Table()); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		have, err = c.ReadMap(t.Context(), file)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got := route.Map{}
		for _, e := range have {
			got[e.Key] = e.Value
		}
		if diff := cmp.Diff(step.want, got); diff != "" || len(have) != len(got) {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		key, value := step.want.Lookup("a.test", step.path)
		if found, err := c.FindEntry(t.Context(), file, "a.test"+strings.TrimSuffix(step.path, "/")+"/"); err != nil || found != (route.Entry{Key: key, Value: value}) {
			t.Errorf("%s: FindEntry gives %q, %v; want %q %q", step.name, found, err, key, value)
		}
		if found, err := ask(t.Context(), url, "a.test", step.path); err != nil || found != step.finds {
			t.Errorf("%s: a request finds %q, %v; want %q", step.name, found, err, step.finds)
		}
	}
	_, err := c.ReadMap(t.Context(), "/no/such.map")
	if _, isUnknown := errors.AsType[unknownMapError](err); !isUnknown || !errors.Is(err, ErrUnexpectedReply) {
		t.Errorf("a map that is not loaded: %v", err)
	}
	if _, err := c.FindEntry(t.Context(), "/no/such.map", "a.test/"); !errors.Is(err, ErrUnexpectedReply) {
		t.Errorf("a lookup in a map that is not loaded: %v", err)
	}
	// What another program has added twice is put right as a whole.
	p.Command("add map " + file + " a.test/ x; add map " + file + " a.test/ y")
	have, err := c.ReadMap(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	want := route.Map{"a.test/": "x"}.Table()
	if err := c.UpdateMap(t.Context(), file, route.UpdateOf(have, want), want); err != nil {
		t.Fatal(err)
	}
	if have, err = c.ReadMap(t.Context(), file); err != nil || len(have) != 1 {
		t.Errorf("after a double key: %v, %v", have, err)
	}
}

// A route that is there before and after a change is found all the time.
func TestMaps_WhileTheyAreReplaced_EveryRequestFindsItsRoute(t *testing.T) {
	t.Parallel()
	c, file, url, _ := mapped(t, "a.test/ old\na.test/v1/ old\n")
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	answers := map[string]int{}
	var mu sync.Mutex
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				found, err := ask(ctx, url, "a.test", "/v1/x")
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					found = err.Error()
				}
				mu.Lock()
				answers[found]++
				mu.Unlock()
			}
		})
	}
	for i := range 300 {
		want := route.Map{"a.test/": "none", "a.test/v1/": []string{"old", "new"}[i%2], fmt.Sprintf("h%d/", i): "other"}.Table()
		have, err := c.ReadMap(t.Context(), file)
		if err == nil {
			err = c.UpdateMap(t.Context(), file, route.UpdateOf(have, want), want)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	readers.Wait()
	if answers["old"] == 0 || answers["new"] == 0 || len(answers) != 2 {
		t.Errorf("requests found %v, want old and new only", answers)
	}
}

func FuzzParseEntry(f *testing.F) {
	const found = `type=beg, case=sensitive, found=yes, idx=tree, key="a.test/", value="b/1", type="str"`
	for _, seed := range []string{found + "\n\n", "type=beg, case=sensitive, found=no\n\n", "Unknown map identifier. Please use #<id> or <file>.\n\n", found, found + "\n" + found + "\n\n", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEntry(text)
		if isNone := e == (route.Entry{}); err != nil && !isNone || err == nil && !isNone && (e.Key == "" || !strings.Contains(text, e.Key)) {
			t.Errorf("%q gives both %v and %v", text, e, err)
		}
	})
}

func FuzzParseMap(f *testing.F) {
	for _, seed := range []string{"\n", "0x1 a b\n\n", "0x55 a.test/ b/1\n0x66 b c d\n\n", "Unknown map identifier. Please use #<id> or <file>.\n\n", "0x1 a\n\n", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseMap(text)
		if err != nil && entries != nil {
			t.Errorf("%q gives both %v and %v", text, entries, err)
		}
	})
}
