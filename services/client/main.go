// The client simulates the users of the API: it sends requests at a set rate
// and fails if a single one of them does. `client --help` explains it.
package main

import (
	"context"
	"os"

	"github.com/pointsman/pointsman/services/client/internal/cli"
	"github.com/pointsman/pointsman/services/internal/command"
)

func main() {
	os.Exit(cli.Run(context.Background(), command.Process{
		Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Exit: os.Exit,
	}))
}
