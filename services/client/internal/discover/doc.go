// Package discover finds out where to send requests: it follows the healthy
// instances of a service in Consul.
//
// Its invariant: unknown is not empty. Once there is a target there always is
// one. A query that failed changes nothing, and neither does an answer that
// names no instance at all: a Consul that has just lost its memory gives one,
// and so does one that sees every instance ill. A client that sends to the last
// known targets then finds out which it was.
//
// The cli of services/client imports it, and nothing else does.
package discover
