package daemon

import (
	"os"
	"testing"

	"github.com/pointsman/pointsman/test/lab"
)

func TestMain(m *testing.M) {
	lab.Parallel(8)
	os.Exit(m.Run())
}
