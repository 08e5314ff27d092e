// Package sim runs the sidecar's own loop, reconcile.Agent with plan in it, in a
// world made of plain values: a Consul, an HAProxy with its workers, a disk,
// and nodes that come and go. All of that world's chance comes from one seed,
// and its time is the bubble's of testing/synctest. So one seed is one history,
// minutes long and over in milliseconds, and the same one every time.
//
// Everything that can go wrong does: commands that HAProxy takes and whose
// answer is lost, addresses that are set later than is said, a sidecar that dies
// between any two commands, restarts, reloads and changes by others, files that
// can't be written, a Consul that is away, behind or empty. After each step the
// invariants of the design are checked, and at the end, when nothing goes wrong
// any more, HAProxy must come to run just what Consul says.
//
// Its invariant: nothing in it depends on anything but the seed. All of it is
// in files of tests; see docs/simulation.md.
package sim
