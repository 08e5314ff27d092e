// Package node answers the demo API's HTTP requests and lets itself be made to
// fail on request.
//
// Its invariant: an answer always says which instance and version gave it, in
// headers and body alike, and a body can be matched to its request. Every size
// and every wait is bounded, except the one that is asked for: a node that
// hangs.
//
// It knows nothing of Consul, signals or listeners. The cli of services/api
// builds it, and serve runs it.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// maxBody is the longest request body that is taken.
	maxBody = 1 << 20
	// maxID is the longest id that is given back.
	maxID = 128
	// patience is how long a client may take to send a whole body, or to take
	// one write.
	patience = 10 * time.Second
)

// Node is one instance of the demo API. It is an http.Handler.
type Node struct {
	instance, version string

	mux      *http.ServeMux
	requests atomic.Uint64 // to "/", since the start
	fail     failure
	leaving  atomic.Bool // every answer closes its connection
}

// New returns a node that calls itself instance and runs the given version. Both
// stand in headers, so they must be one to 64 printable ASCII characters.
func New(instance, version string) (*Node, error) {
	n := &Node{instance: instance, version: version, mux: http.NewServeMux()}
	n.fail.init()
	if err := errors.Join(checkName("instance", instance), checkName("version", version)); err != nil {
		return nil, err
	}
	n.mux.HandleFunc("/{$}", n.root)
	n.mux.HandleFunc("/slow", n.slow)
	n.mux.HandleFunc("/stream", n.stream)
	n.mux.HandleFunc("/healthz", n.health)
	n.mux.HandleFunc("GET /fail", n.showFail)
	n.mux.HandleFunc("POST /fail", n.setFail)
	return n, nil
}

func checkName(field, value string) error {
	for _, r := range value {
		if r <= ' ' || r > '~' {
			return fmt.Errorf("%s %q: has a character that is not printable ASCII", field, value)
		}
	}
	if value == "" || len(value) > 64 {
		return fmt.Errorf("%s %q: must have 1 to 64 characters", field, value)
	}
	return nil
}

// Leave makes every answer from now on close its connection, by the header
// that tells the other side beforehand. A load balancer then has no idle
// connection left to us that it could send a request on while we close it.
func (n *Node) Leave() { n.leaving.Store(true) }

// ServeHTTP implements http.Handler.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Api-Instance", n.instance)
	h.Set("X-Api-Version", n.version)
	h.Set("Cache-Control", "no-store")
	n.mux.ServeHTTP(&closing{ResponseWriter: w, leaving: &n.leaving}, r)
}

// closing adds `Connection: close` to an answer that begins while the node is
// leaving, also to those whose request came before.
type closing struct {
	http.ResponseWriter
	leaving *atomic.Bool
	begun   bool
}

func (c *closing) WriteHeader(code int) {
	if !c.begun && c.leaving.Load() {
		c.Header().Set("Connection", "close")
	}
	c.begun = true
	c.ResponseWriter.WriteHeader(code)
}

func (c *closing) Write(p []byte) (int, error) {
	if !c.begun {
		c.WriteHeader(http.StatusOK)
	}
	return c.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController set deadlines and flush.
func (c *closing) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// answer is the body of what "/" and "/slow" say.
type answer struct {
	Instance string `json:"instance"`
	Version  string `json:"version"`
	Requests uint64 `json:"requests"`        // answered at "/" by this instance, this one included
	ID       string `json:"id,omitempty"`    // the query parameter id
	Error    string `json:"error,omitempty"` // why this is not a success

	// Of the request's body, for the methods that have one.
	Length *int64 `json:"length,omitempty"` // bytes
	SHA256 string `json:"sha256,omitempty"` // hexadecimal
}

// answer begins an answer to the request. It fails if the id is too long.
func (n *Node) answer(r *http.Request) (answer, error) {
	a := answer{Instance: n.instance, Version: n.version, Requests: n.requests.Load(), ID: r.URL.Query().Get("id")}
	if len(a.ID) > maxID {
		length := len(a.ID)
		a.ID = ""
		return a, badRequest{fmt.Sprintf("query parameter id: has %d bytes, at most %d are taken", length, maxID)}
	}
	return a, nil
}

// badRequest is an error that is the client's.
type badRequest struct{ reason string }

func (e badRequest) Error() string { return e.reason }

// refuse answers that the request is at fault.
func (n *Node) refuse(w http.ResponseWriter, a answer, err error) {
	code := http.StatusBadRequest
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		code = http.StatusRequestEntityTooLarge
	}
	a.Error = err.Error()
	writeJSON(w, code, a)
}

// writeJSON writes the whole answer, or gives up on a client that doesn't take
// it. There is no reader to report that to.
func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// pause waits for d and reports whether the client is still there.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
