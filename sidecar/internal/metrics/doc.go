// Package metrics counts what the sidecar does, for Prometheus.
//
// Its invariant: labels are bounded. A label is from a closed list, and then
// all its series exist from the start with 0, or it is a service's name, and
// then the series goes when the service goes. No server and no instance is
// ever a label.
package metrics
