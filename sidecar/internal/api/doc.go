// Package api serves what the sidecar knows over HTTP: for people, scripts,
// Prometheus and whatever supervises the process. registrator/sidecarapi is
// its client.
//
// Its invariant: it only reads, except by the POSTs that release what the guard holds,
// drain a server, pause a service, change a rollout, reload HAProxy, or take the load
// balancer out of rotation, and these need the bearer token or the Unix socket. No request can hold up the agent's loop, and each is bounded
// in time and size.
//
// It is given functions and values and knows nothing of the agent's loop.
package api
