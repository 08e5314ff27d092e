// Package ready finds out when a program is ready to serve, by making the
// checks that Consul will make.
//
// Its invariant: Await returns nil only after every check has passed in one
// and the same round.
//
// Only the wrapper's wiring in cli imports it.
package ready
