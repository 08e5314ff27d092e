package node_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/services/api/internal/node"
	"github.com/pointsman/pointsman/services/internal/memnet"
)

// start serves a node in memory and gives a client of it, for use in a bubble.
func start(t *testing.T) (*node.Node, *http.Client) {
	t.Helper()
	n, err := node.New("api0", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	listener := memnet.Listen()
	server := httptest.NewUnstartedServer(n)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	transport := &http.Transport{DialContext: listener.Dial}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return n, &http.Client{Transport: transport}
}

type reply struct {
	code   int
	header http.Header
	close  bool // the connection is not to be used again
	body   map[string]any
}

func ask(t *testing.T, client *http.Client, method, path, body string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://api"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	got := reply{code: response.StatusCode, header: response.Header, close: response.Close}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if err := json.Unmarshal(text, &got.body); err != nil {
		t.Fatalf("%s %s: body %q: %v", method, path, text, err)
	}
	return got
}

// in runs the test in a bubble, where waiting takes no time.
func in(t *testing.T, test func(t *testing.T)) { t.Helper(); synctest.Test(t, test) }

func TestAnswerSaysWhoGaveItAndToWhat(t *testing.T) {
	in(t, func(t *testing.T) {
		_, client := start(t)
		sum := sha256.Sum256([]byte("cargo"))
		for _, c := range []struct {
			method, path, body string
			want               map[string]any
		}{
			{"GET", "/", "", map[string]any{"instance": "api0", "version": "1.0", "requests": 1.0}},
			{"GET", "/?id=x1", "", map[string]any{"instance": "api0", "version": "1.0", "requests": 2.0, "id": "x1"}},
			{"POST", "/?id=x2", "cargo", map[string]any{"instance": "api0", "version": "1.0", "requests": 3.0, "id": "x2", "length": 5.0, "sha256": hex.EncodeToString(sum[:])}},
			{"DELETE", "/", "", map[string]any{"instance": "api0", "version": "1.0", "requests": 4.0}},
			{"GET", "/slow?ms=20&id=x3", "", map[string]any{"instance": "api0", "version": "1.0", "requests": 4.0, "id": "x3"}},
		} {
			got := ask(t, client, c.method, c.path, c.body)
			if got.code != 200 || got.header.Get("X-Api-Instance") != "api0" || got.header.Get("X-Api-Version") != "1.0" {
				t.Errorf("%s %s: got %d with %v, want 200 with instance and version", c.method, c.path, got.code, got.header)
			}
			if diff := cmp.Diff(got.body, c.want); diff != "" {
				t.Errorf("%s %s: body (-got +want):\n%s", c.method, c.path, diff)
			}
		}
	})
}

func TestRequestOutOfBoundsIsRefusedByName(t *testing.T) {
	in(t, func(t *testing.T) {
		_, client := start(t)
		for _, c := range []struct {
			method, path, body string
			code               int
			want               string
		}{
			{"GET", "/?id=" + strings.Repeat("x", 129), "", 400, "query parameter id"},
			{"POST", "/", strings.Repeat("x", 1<<20+1), 413, "too large"},
			{"GET", "/slow?ms=60001", "", 400, `ms="60001"`},
			{"GET", "/slow?ms=-1", "", 400, `ms="-1"`},
			{"GET", "/stream?chunks=0", "", 400, `chunks="0"`},
			{"GET", "/stream?chunks=1000&ms=10000", "", 400, "at most 5m0s"},
			{"POST", "/fail?mode=explode", "", 400, `mode="explode"`},
			{"POST", "/fail?mode=5xx&for=ever", "", 400, `for="ever"`},
		} {
			got := ask(t, client, c.method, c.path, c.body)
			text, _ := got.body["error"].(string)
			if got.code != c.code || !strings.Contains(text, c.want) {
				t.Errorf("%s %.40s: got %d %q, want %d and %q in it", c.method, c.path, got.code, text, c.code, c.want)
			}
		}
	})
}

func TestSlowTakesAsLongAsAsked(t *testing.T) {
	in(t, func(t *testing.T) {
		_, client := start(t)
		began := time.Now()
		ask(t, client, "GET", "/slow?ms=1500", "")
		if got, want := time.Since(began), 1500*time.Millisecond; got != want {
			t.Errorf("time: got %s, want %s", got, want)
		}
	})
}

func TestStreamSendsItsChunksOverTime(t *testing.T) {
	in(t, func(t *testing.T) {
		_, client := start(t)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api/stream?chunks=3&ms=200&id=s", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		began := time.Now()
		var lines []string
		var at []time.Duration
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			lines = append(lines, scanner.Text())
			at = append(at, time.Since(began))
		}
		if diff := cmp.Diff(at, []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond}); diff != "" {
			t.Errorf("chunks came at (-got +want):\n%s", diff)
		}
		if got, want := lines[len(lines)-1], `{"instance":"api0","version":"1.0","id":"s","chunk":3,"of":3}`; got != want {
			t.Errorf("last chunk: got %s, want %s", got, want)
		}
	})
}

func TestFailModes(t *testing.T) {
	for _, c := range []struct {
		mode         string
		root, health int
	}{
		{"5xx", 503, 200},
		{"critical", 200, 503},
		{"ok", 200, 200},
	} {
		t.Run(c.mode, func(t *testing.T) {
			in(t, func(t *testing.T) {
				_, client := start(t)
				ask(t, client, "POST", "/fail?mode="+c.mode, "")
				if got := ask(t, client, "GET", "/fail", "").body["mode"]; got != c.mode {
					t.Errorf("GET /fail: got mode %v, want %s", got, c.mode)
				}
				if got := ask(t, client, "GET", "/", "").code; got != c.root {
					t.Errorf("GET /: got %d, want %d", got, c.root)
				}
				if got := ask(t, client, "GET", "/healthz", "").code; got != c.health {
					t.Errorf("GET /healthz: got %d, want %d", got, c.health)
				}
			})
		})
	}
}

func TestFailureEndsAfterItsTimeUnlessReplaced(t *testing.T) {
	in(t, func(t *testing.T) {
		_, client := start(t)
		ask(t, client, "POST", "/fail?mode=5xx&for=10s", "")
		time.Sleep(9 * time.Second)
		if got := ask(t, client, "GET", "/", "").code; got != 503 {
			t.Errorf("after 9 s: got %d, want 503", got)
		}
		ask(t, client, "POST", "/fail?mode=critical&for=10s", "")
		time.Sleep(9 * time.Second) // past the end of the first
		if got := ask(t, client, "GET", "/healthz", "").code; got != 503 {
			t.Errorf("9 s after the second: got %d, want 503", got)
		}
		time.Sleep(2 * time.Second)
		if got := ask(t, client, "GET", "/healthz", "").code; got != 200 {
			t.Errorf("11 s after the second: got %d, want 200", got)
		}
	})
}

func TestHangLastsUntilTheModeIsAnother(t *testing.T) {
	in(t, func(t *testing.T) {
		_, client := start(t)
		ask(t, client, "POST", "/fail?mode=hang&for=30s", "")
		began := time.Now()
		if got := ask(t, client, "POST", "/", "cargo").code; got != 200 {
			t.Errorf("after the hang: got %d, want 200", got)
		}
		if got, want := time.Since(began), 30*time.Second; got != want {
			t.Errorf("hung for %s, want %s", got, want)
		}
	})
}

func TestHangEndsWhenTheClientGoesAway(t *testing.T) {
	in(t, func(t *testing.T) {
		n, client := start(t)
		ask(t, client, "POST", "/fail?mode=hang", "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
		n.ServeHTTP(httptest.NewRecorder(), request) // returns, or the bubble is deadlocked
	})
}

func TestAnswersOfALeavingNodeCloseTheirConnection(t *testing.T) {
	in(t, func(t *testing.T) {
		n, client := start(t)
		if got := ask(t, client, "GET", "/", ""); got.close {
			t.Error("before: got Connection: close, want the connection kept")
		}
		underway := make(chan reply)
		go func() { underway <- ask(t, client, "GET", "/slow?ms=1000", "") }()
		synctest.Wait()

		n.Leave()

		if got := <-underway; !got.close {
			t.Error("a request that came before: got the connection kept, want Connection: close")
		}
		for _, path := range []string{"/", "/healthz", "/nowhere"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if !response.Close {
				t.Errorf("GET %s: got the connection kept, want Connection: close", path)
			}
		}
		if got := ask(t, client, "GET", "/healthz", "").code; got != 200 {
			t.Errorf("health while leaving: got %d, want 200", got)
		}
	})
}

func TestNamesThatDoNotFitAHeaderAreRefused(t *testing.T) {
	for _, c := range []struct{ instance, version, want string }{
		{"", "1.0", "instance"},
		{"api0", "1.0\r\nX-Evil: 1", "version"},
		{strings.Repeat("x", 65), "1.0", "instance"},
	} {
		_, err := node.New(c.instance, c.version)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("New(%q, %q): got error %v, want one that names the %s", c.instance, c.version, err, c.want)
		}
	}
}

func TestANodeFailsFromItsStartIfToldTo(t *testing.T) {
	n, err := node.New("api0", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Fail("sometimes"); err == nil || !strings.Contains(err.Error(), `"sometimes"`) {
		t.Errorf("an unknown mode: got error %v, want one that names it", err)
	}
	if err := n.Fail("critical"); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", http.NoBody))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("/healthz: got %d, want %d", w.Code, http.StatusServiceUnavailable)
	}
}
