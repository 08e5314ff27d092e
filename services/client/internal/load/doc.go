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
//   - A success is one thing only: a whole answer with an expected status and, if
//     asked for, an expected body. Everything else is a failure and has one Cause.
//
// Why not vegeta's library: it sends with http.Client, which sends a request again when a
// kept connection breaks and so hides what a load balancer drops, and it counts latency
// from the sending and sends later when all workers are busy (v12, lib/attack.go).
//
// It logs nothing and prints nothing; the cli of services/client does, from
// the callbacks and from Snapshot.
package load
