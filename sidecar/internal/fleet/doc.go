// Package fleet is what is known of all load balancers: a summary of each, and
// how they do together. It gathers over interfaces of its own; daemon puts Consul
// and the other sidecars' APIs behind them. What another sidecar answers may be
// anything that another program has registered.
package fleet
