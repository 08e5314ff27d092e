package load

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
)

// target is one place that requests go to.
type target struct {
	url  *url.URL
	name string          // the URL, for people
	kept *http.Transport // keeps its connections
	left atomic.Bool     // no new request goes there any more
}

// leave closes the idle connections. Those under way are closed by used.
func (t *target) leave() {
	t.left.Store(true)
	t.kept.CloseIdleConnections()
}

// used is called after each request. A request that was given this target just
// before it left has put its connection back after leave.
func (t *target) used() {
	if t.left.Load() {
		t.kept.CloseIdleConnections()
	}
}

// targets is the places that requests go to now. There is always one.
type targets struct {
	now atomic.Pointer[[]*target] // never changed, but replaced

	mu sync.Mutex // held while they are replaced
}

// turn returns the target of a request by its number.
func (t *targets) turn(number int) *target {
	now := *t.now.Load()
	return now[number%len(now)]
}

// set makes c's targets the ones. One that was there already stays as it is,
// with its connections.
func (t *targets) set(c Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := map[string]*target{}
	if now := t.now.Load(); now != nil {
		for _, old := range *now {
			before[old.name] = old
		}
	}
	next := make([]*target, 0, len(c.Targets))
	for _, u := range c.Targets {
		name := u.String()
		kept, stays := before[name]
		if !stays {
			kept = &target{url: u, name: name, kept: newTransport(c, true)}
		}
		delete(before, name)
		next = append(next, kept)
	}
	t.now.Store(&next)
	for _, gone := range before {
		gone.leave()
	}
}

// close closes the idle connections of all of them.
func (t *targets) close() {
	for _, one := range *t.now.Load() {
		one.kept.CloseIdleConnections()
	}
}
