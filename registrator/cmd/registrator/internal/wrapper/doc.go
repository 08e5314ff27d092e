// Package wrapper is the life of a wrapped program: started, ready, registered,
// leaving, ended.
//
// Its invariants: the program is registered only after it was ready, and never
// again once it has ended or is to stop; told to stop, it hears of it only
// after the load balancers have drained it; and the wrapper ends with it, in
// bounded time whatever Consul and the program do.
//
// Only the cli of registrator imports it.
package wrapper
