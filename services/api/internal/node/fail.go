package node

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// The ways to fail.
const (
	modeOK       = "ok"
	mode5xx      = "5xx"      // "/" answers 503
	modeHang     = "hang"     // "/" doesn't answer until the mode is another
	modeCritical = "critical" // "/healthz" answers 503
)

// maxFail is the longest time that a failure may be asked for. Without a time
// it stays until it is switched off.
const maxFail = 24 * time.Hour

// failure is the mode that the node is in.
type failure struct {
	mu      sync.Mutex
	mode    string
	until   time.Time     // when mode goes back to ok by itself, or zero
	changed chan struct{} // closed when the fields above are replaced
	revert  *time.Timer   // sets mode back at until, or nil
}

func (f *failure) init() { f.mode, f.changed = modeOK, make(chan struct{}) }

// set changes the mode, for a time or, if that is 0, until the next set.
func (f *failure) set(mode string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replace(mode)
	if d > 0 {
		f.until = time.Now().Add(d)
		mine := f.changed
		f.revert = time.AfterFunc(d, func() { f.end(mine) })
	}
}

// end sets the mode back, unless it has been replaced since.
func (f *failure) end(mine chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == mine {
		f.replace(modeOK)
	}
}

// replace changes the mode and wakes the requests that hang. f.mu is held.
func (f *failure) replace(mode string) {
	if f.revert != nil {
		f.revert.Stop()
	}
	close(f.changed)
	f.mode, f.until, f.changed, f.revert = mode, time.Time{}, make(chan struct{}), nil
}

// now returns the mode, when it ends by itself, and a channel that is closed
// when it changes.
func (f *failure) now() (mode string, until time.Time, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mode, f.until, f.changed
}

// settle waits while the mode is to hang and gives the one after it. stays is
// false if the client went away meanwhile.
func (f *failure) settle(ctx context.Context) (mode string, stays bool) {
	for {
		mode, _, changed := f.now()
		if mode != modeHang {
			return mode, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return mode, false
		}
	}
}

// failState is the body of what "/fail" says.
type failState struct {
	Mode  string     `json:"mode"`
	Until *time.Time `json:"until,omitempty"`
}

func (n *Node) showFail(w http.ResponseWriter, _ *http.Request) {
	mode, until, _ := n.fail.now()
	state := failState{Mode: mode}
	if !until.IsZero() {
		state.Until = &until
	}
	writeJSON(w, http.StatusOK, state)
}

// Fail makes the node fail from its start, as "/fail?mode=" does later: "5xx",
// "hang", "critical", or "ok" not to. An error names any other mode.
func (n *Node) Fail(mode string) error {
	if err := checkMode(mode); err != nil {
		return err
	}
	n.fail.set(mode, 0)
	return nil
}

func checkMode(mode string) error {
	switch mode {
	case modeOK, mode5xx, modeHang, modeCritical:
		return nil
	}
	return fmt.Errorf("%q: must be one of 5xx, hang, critical, ok", mode)
}

// setFail takes ?mode= and, for how long, ?for= as Go writes durations.
func (n *Node) setFail(w http.ResponseWriter, r *http.Request) {
	a := answer{Instance: n.instance, Version: n.version, Requests: n.requests.Load()}
	mode := r.URL.Query().Get("mode")
	if err := checkMode(mode); err != nil {
		n.refuse(w, a, badRequest{"query parameter mode=" + err.Error()})
		return
	}
	var d time.Duration
	if text := r.URL.Query().Get("for"); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil || d <= 0 || d > maxFail {
			n.refuse(w, a, badRequest{fmt.Sprintf("query parameter for=%q: must be a duration above 0 and up to %s, such as 10s", text, maxFail)})
			return
		}
	}
	n.fail.set(mode, d)
	n.showFail(w, r)
}
