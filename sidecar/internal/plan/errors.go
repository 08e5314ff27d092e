package plan

import "errors"

// What an adapter of HAProxy wraps, for the agent to tell apart.
var (
	// ErrNotRunning: no HAProxy answers.
	ErrNotRunning = errors.New("HAProxy is not running")
	// ErrRefused: HAProxy refuses `add server` in this backend for a reason
	// that will not go away by itself.
	ErrRefused = errors.New("the backend takes no servers at runtime")
)
