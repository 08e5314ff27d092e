// Package status serves what the sidecar knows over HTTP: for people, scripts,
// Prometheus and whatever supervises the process.
//
// Its invariant: it only reads. No request changes anything, none can hold up
// the agent's loop, and every one is bounded in time and size.
//
// It is given functions and values and knows nothing of the agent; it imports
// nothing of this project. Only cli imports it.
package status
