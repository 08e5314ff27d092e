// Package contract is what an instance and the load balancers agree on in
// Consul: the meta keys that the registrator writes and the sidecar reads.
//
// Its invariant: what Format writes, Parse reads back as the same Meta, for
// every Meta that Parse can give.
//
// It is a leaf and holds no state. Both halves import it, and nothing else is
// shared between them.
package contract
