package load_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/services/client/internal/load"
	"github.com/pointsman/pointsman/services/internal/memnet"
)

// api answers as a node of the demo API does, and can be made to do otherwise.
type api struct {
	instance, version string
	before            func(w http.ResponseWriter, r *http.Request) (done bool) // may be nil
	distort           func(answer map[string]any)                              // may be nil

	mu   sync.Mutex
	seen map[string]int // requests by method
	ids  map[string]int // requests by id
}

func newAPI() *api {
	return &api{instance: "api0", version: "1.0", seen: make(map[string]int), ids: make(map[string]int)}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.seen[r.Method]++
	a.ids[r.URL.Query().Get("id")]++
	a.mu.Unlock()
	if a.before != nil && a.before(w, r) {
		return
	}
	answer := map[string]any{"instance": a.instance, "version": a.version, "id": r.URL.Query().Get("id")}
	if r.Method == http.MethodPost {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		if err != nil {
			return
		}
		answer["length"], answer["sha256"] = n, hex.EncodeToString(hash.Sum(nil))
	}
	if a.distort != nil {
		a.distort(answer)
	}
	w.Header().Set("X-Api-Instance", a.instance)
	w.Header().Set("X-Api-Version", a.version)
	_ = json.NewEncoder(w).Encode(answer)
}

// requests returns how many requests came with the method.
func (a *api) requests(method string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[method]
}

// repeated returns how many requests came more than once.
func (a *api) repeated() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, times := range a.ids {
		if times > 1 {
			n++
		}
	}
	return n
}

// inMemory serves the handler in the bubble and gives a configuration for it.
func inMemory(t *testing.T, handler http.Handler) load.Config {
	t.Helper()
	listener := memnet.Listen()
	server := httptest.NewUnstartedServer(handler)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	c := config(t, "http://lb0/")
	c.Dial = listener.Dial
	return c
}

func config(t *testing.T, target string) load.Config {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return load.Config{
		Targets: []*url.URL{u}, Rate: 100, Duration: 5 * time.Second,
		Timeout: 5 * time.Second, MaxInFlight: 1000, IdleTimeout: 2 * time.Second, Echo: true,
	}
}

func run(t *testing.T, c load.Config) load.Report {
	t.Helper()
	l, err := load.New(c)
	if err != nil {
		t.Fatal(err)
	}
	report, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// failures keeps what OnFailure is called with.
type failures struct {
	mu   sync.Mutex
	kept []load.Failure
}

func (f *failures) add(one load.Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = append(f.kept, one)
}

func (f *failures) all() []load.Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]load.Failure(nil), f.kept...)
}
