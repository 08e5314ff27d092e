// Package haproxytest gives tests a HAProxy: Process is a real one in
// master-worker mode, Fake is a program that behaves like one, with state and
// with faults on request. The same table of cases runs on both
// (sidecar/internal/haproxy), which is what proves the Fake.
//
// Its invariant: nothing that it starts outlives its test, nothing it opens
// has a fixed port or path, and every wait has an end.
//
// Only tests may import it.
package haproxytest
