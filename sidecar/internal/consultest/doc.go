// Package consultest gives tests a Consul: the real one as a process, and a
// fake that fails on request.
//
// Its invariant: what the fake answers without a fault, the real one answers
// too. One table of cases runs on both and holds them together.
//
// Tests may import it, and nothing else.
package consultest
