// Package haproxy talks to one HAProxy: it reads what the process runs, sends
// it the steps of a plan and makes it load its file again.
//
// Its invariant: nothing is taken as done that HAProxy has not said. Every
// reply is held against the known answers of its command, and one that is not
// among them is an error that carries it. No connection outlives an exchange:
// a connection stays with the worker that took it, across a reload, and keeps
// that worker alive (management manual 9.3; seen on 2.6 to 3.4).
//
// Names, addresses and options come from the outside and are checked once more
// before they are sent, though the package that made them has checked them too.
//
// With daemon.Proxy around it, it is the HAProxy of reconcile; it is its Maps.
package haproxy
