package cli

import (
	"io"
	"testing"

	"github.com/pointsman/pointsman/test/manpages"
)

// tools/packages.sh takes the pages for the packages: -args -man DIR.
func TestManPages_EachCommand_HasOne(t *testing.T) {
	manpages.Check(t, newRoot(Env{Hostname: "localhost", Stdout: io.Discard, Stderr: io.Discard}))
}
