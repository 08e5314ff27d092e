package consultest_test

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

func TestProcessStartsQuickly(t *testing.T) {
	s := time.Now()
	p := consultest.StartProcess(t)
	t.Log(time.Since(s), p.Address())
	s = time.Now()
	p.Restart()
	t.Log(time.Since(s))
	s = time.Now()
	p.Stop()
	t.Log(time.Since(s))
}
