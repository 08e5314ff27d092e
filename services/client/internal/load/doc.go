// Package load sends requests at a set rate, whatever becomes of the ones
// before, and judges every answer.
//
// Its invariants:
//
//   - Open loop. Request i is due at start + i/rate. It is sent then, or is a
//     failure; none is left out. Latency counts from when it was due, so a
//     server that stalls is charged for every request that it kept waiting,
//     and not just for the one that a waiting client would have sent
//     ("coordinated omission", Gil Tene).
//   - No request is sent twice. See Load.send for how net/http is held to it.
//   - A success is one thing only: a whole 2xx answer whose body fits its
//     request. Everything else is a failure and has one Cause.
//
// It logs nothing and prints nothing; the cli of services/client does, from
// the callbacks and from Snapshot.
package load
