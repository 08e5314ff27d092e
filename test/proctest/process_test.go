package proctest_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/proctest"
)

const sh = "/bin/sh"

func TestAProcessSaysWhatItSaysAndEndsAsItEnds(t *testing.T) {
	t.Setenv("OURS", "z")
	p := proctest.Start(t, []string{"X=y"}, sh, "-c", `echo "$X"; echo "$OURS" >&2; exit 3`)
	if code := p.Wait(); code != 3 || p.Stdout.String() != "y\n" || p.Stderr.String() != "\n" {
		t.Errorf("got %d %q %q, want 3, X, and nothing else of the environment", code, &p.Stdout, &p.Stderr)
	}
	p = proctest.Start(t, nil, sh, "-c", "kill -9 $$")
	if code := p.Wait(); code != -1 {
		t.Errorf("ended by a signal: got %d, want -1", code)
	}
}

func TestAProcessEndsWithItsTest(t *testing.T) {
	var p *proctest.Process
	t.Run("inner", func(t *testing.T) {
		p = proctest.Start(t, nil, sh, "-c", `trap "" TERM; echo here; exec sleep 1000`)
		proctest.Until(t, 10*time.Second, "here", func() bool { return strings.HasPrefix(p.Stdout.String(), "here") })
		p.Signal(syscall.SIGTERM)
	})
	if err := p.Cmd.Process.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after its test: got %v, want that it is gone", err)
	}
}
