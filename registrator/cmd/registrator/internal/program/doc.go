// Package program runs one program as a child: it finds and starts it, hands
// signals to it, and says how it ended.
//
// Its invariants: the arguments reach the program as they are, and no shell
// sees them; a signal never reaches another process that got the program's pid
// after its end; and with Init on, every orphan is reaped, and the program's
// own end is never taken for an orphan's.
//
// Only the wrapper and the cli of registrator import it. While a Program with
// Init runs, nothing else in the process may start a program: its end would be
// reaped here.
package program
