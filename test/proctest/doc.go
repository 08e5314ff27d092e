// Package proctest runs programs for the tests of one package: those of ours
// that TestMain builds, and a real Consul beside them. What needs a whole
// system is in package lab.
//
// Its invariants: a Process has nothing in its environment but PATH, HOME and
// what is given; every wait has an end; and all ends with the test, by pid.
//
// Tests may import it, and nothing else.
package proctest
