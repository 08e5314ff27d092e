// The api is one node of the demo's HTTP service. It registers itself in
// Consul and leaves without losing a request. `api --help` explains it.
package main

import (
	"context"
	"os"

	"github.com/pointsman/pointsman/services/api/internal/cli"
	"github.com/pointsman/pointsman/services/internal/command"
)

func main() {
	os.Exit(cli.Run(context.Background(), command.Process{
		Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Exit: os.Exit,
	}))
}
