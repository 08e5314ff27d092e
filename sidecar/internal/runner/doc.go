// Package runner starts and stops a service's nodes: by commands of the
// operator's own, which a shell runs, or by Docker Compose.
//
// Its invariants: every command ends, by itself or when its time is over or the
// deployment is interrupted, and then with all processes of its group; a command
// that has ended leaves alone what it has started; and nothing of the catalog
// stands in a command line: it is in checked environment variables, or has been
// replaced by what Docker says.
//
// It imports deploy, whose interface it implements. Only cli imports it.
package runner
