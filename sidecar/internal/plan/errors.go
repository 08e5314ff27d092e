package plan

import "errors"

// What an adapter of HAProxy wraps, for the agent to tell apart.
var (
	// ErrNotRunning: no HAProxy answers.
	ErrNotRunning = errors.New("no process answers there")
	// ErrRefused: HAProxy refuses `add server` in this backend for a reason
	// that will not go away by itself.
	ErrRefused = errors.New("backend does not support servers added at runtime")
	// ErrBackendRefused: HAProxy refuses to add, publish, unpublish or delete the backend as
	// it runs, for a reason that will not go away by itself. A reload brings it, or takes it.
	ErrBackendRefused = errors.New("backend cannot be changed at runtime")
	// ErrStatic: the backend's balance algorithm takes no weight at runtime but
	// 0 % and 100 % of the configured one.
	ErrStatic = errors.New("balance algorithm does not support weights at runtime")
	// ErrListen: a new worker could not bind all that its file has, or may not
	// have. While it tried, some 2 s long, the one that serves had to release
	// what it listens on itself: clients were refused.
	ErrListen = errors.New("new worker cannot bind, clients were refused meanwhile")
)
