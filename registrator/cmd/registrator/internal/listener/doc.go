// Package listener finds out which process listens on a port of this machine.
//
// Its invariant: a process is called another one only where the kernel says
// that the port is open there and that it belongs to none of the program's
// processes. What can't be found out is not held against the program.
//
// Only the cli of registrator imports it.
package listener
