// Package history keeps what was deployed: a bounded document for each service in
// Consul's key/value store. The same key is the lock against two deployments at
// once. Any program that may write keys may have written it: all of it is checked,
// bounded, and never taken for a command.
package history
