// Package config holds the sidecar's settings and reads them from flags, the
// environment, a YAML file and Consul's own environment variables.
//
// Its invariant: one table (see settings and serviceSettings) says what there
// is to set. Flags, environment variables, YAML keys, defaults, checks and
// docs/configuration.md all come from it, and a test holds them together. A
// Config that Load returned is whole and checked: nothing in it needs another
// look before it is used, and no string in it can break out of its place in
// haproxy.cfg or in a line on HAProxy's socket.
//
// It does no I/O but by the function that it is given.
package config
