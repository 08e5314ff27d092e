// Package api serves what the sidecar knows over HTTP: for people, scripts,
// Prometheus and whatever supervises the process. Its Client asks that of
// others, and of the sidecar on this machine.
//
// Its invariant: it only reads, except by the POSTs that release what the guard holds,
// drain a server, or take the load balancer out of rotation, and these need the bearer
// token or the Unix socket. No request can hold up the agent's loop, and each is bounded
// in time and size.
//
// It is given functions and values and knows nothing of the agent; of
// this project it imports credential and event. Only cli imports it.
package api
