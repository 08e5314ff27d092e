// Command registrator registers any program in Consul, and takes it away
// without losing a request. `registrator --help` explains it.
package main

import (
	"context"
	"os"

	"github.com/pointsman/pointsman/registrator/cmd/registrator/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(cli.Run(context.Background(), cli.Process{
		Args: os.Args[1:], Environ: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr, Version: version,
	}))
}
