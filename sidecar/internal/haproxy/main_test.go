package haproxy

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/test/lab"
)

func TestMain(m *testing.M) {
	lab.Parallel(8)
	goleak.VerifyTestMain(m)
}
