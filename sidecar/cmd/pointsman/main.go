// Command sidecar keeps one HAProxy in step with Consul.
package main

import (
	"os"

	"github.com/pointsman/pointsman/sidecar/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(cli.Main(version)) }
