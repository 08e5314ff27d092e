// Package command is what the programs under services/ share on their command
// lines: flags that are settable by environment, zap as set by flags, and exit codes.
//
// Its invariant: a program does nothing before all of its settings were read
// and found good, and each bad one is named with its key and value. Nothing
// here reads os.Args or os.Environ: main passes them in.
//
// The cli packages of the services import it, and nothing else does.
package command
