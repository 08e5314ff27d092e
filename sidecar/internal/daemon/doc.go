// Package daemon is the running sidecar: the parts that its settings ask for, put
// together, and what runs beside the agent's loop (discovery of routes, certificates,
// peers, its registrations in Consul, the API).
//
// The parts come from functions of their own (*_settings.go, proxy.go, once.go), so that a
// command that looks at HAProxy or Consul once, such as plan, render or check, sees what the
// running sidecar would see. The package reads no arguments, and of the environment only what
// systemd passes.
package daemon
