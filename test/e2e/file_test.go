package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// fileWorld is Consul and a load balancer that is not started.
func fileWorld(t *testing.T) *world {
	t.Helper()
	w := worldOf(t, lab.Service{Name: service, Backend: "api_nodes"})
	return w
}

// failsToWrite waits until the sidecar has failed that many times, or more.
func (w *world) failsToWrite(times float64) {
	w.Helper()
	w.must(lab.Until(w.ctx, 30*time.Second, "writing the file fails", func() error {
		n, err := w.lb.Metric(w.ctx, `pointsman_file_writes_total{result="failed"}`)
		if err == nil && n < times {
			err = fmt.Errorf("%v times", n)
		}
		return err
	}))
}

// The name of the temporary file is another one each time, and so was the text of
// the error (issue 14, section 9).
func TestFile_CannotBeWritten_LoggedOnce(t *testing.T) {
	t.Parallel()
	w := fileWorld(t)
	away := filepath.Dir(w.lb.Config()) + "/cfg"
	w.must(os.Mkdir(away, 0o755))
	w.must(w.lb.SetConfig("cfg/haproxy.cfg"))
	w.must(w.lb.Start(w.ctx))
	w.must(os.Rename(away, away+".away"))
	w.nodes = w.startNodes("1.0", "old", 1) // a change to write
	w.failsToWrite(5)
	if got := strings.Count(w.lb.Sidecar.Tail(1000), "haproxy.cfg write failed"); got != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", got, w.lb.Sidecar.Tail(20))
	}
}

// Opening a pipe waits for who writes to it, also when the sidecar is to stop.
func TestFile_IsAPipe_StartRefused(t *testing.T) {
	t.Parallel()
	w := fileWorld(t)
	w.must(syscall.Mkfifo(w.lb.Config(), 0o600))
	w.must(w.lb.StartSidecar())
	if err := w.lb.Sidecar.Wait(10 * time.Second); err != nil && w.lb.Sidecar.Running() {
		t.Fatalf("it waits: %v", err)
	}
	if got := w.lb.Sidecar.Tail(5); w.lb.Sidecar.ExitCode() != 2 || !strings.Contains(got, "want a regular file") || !strings.Contains(got, w.lb.Config()) {
		t.Errorf("exit code %d, %s; want 2 and the file", w.lb.Sidecar.ExitCode(), got)
	}
}

func TestFile_IsASymbolicLink_LinkStays(t *testing.T) {
	t.Parallel()
	w := fileWorld(t)
	target := filepath.Join(t.TempDir(), "real.cfg")
	w.must(os.Symlink(target, w.lb.Config()))
	w.must(w.lb.Start(w.ctx))
	w.nodes = w.startNodes("1.0", "old", 1)
	w.must(lab.Until(w.ctx, 20*time.Second, "the file behind the link has the node", func() error {
		text, err := os.ReadFile(target)
		if err == nil && !strings.Contains(string(text), w.nodes[0].Addr()) {
			err = fmt.Errorf("it has not: %s", text)
		}
		return err
	}))
	if info, err := os.Lstat(w.lb.Config()); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("got %v, %v, want the link", info.Mode(), err)
	}
}

// An edit of the file by hand is undone, logged and counted.
func TestFile_EditedByHand_PutBackLoggedAndCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.fileIsCurrent()
	before, err := os.ReadFile(w.lb.Config())
	w.must(err)
	w.must(os.WriteFile(w.lb.Config(), append(before, "# by hand\n"...), 0o644))
	w.must(w.lb.Reread()) // it compares the file, as every reconcile_interval
	w.logged("[WARN]", "haproxy.cfg drift corrected", w.lb.Config())
	if now, err := os.ReadFile(w.lb.Config()); err != nil || string(now) != string(before) {
		t.Errorf("haproxy.cfg (%v):\n%s", err, now)
	}
	if n, err := w.lb.Metric(w.ctx, "pointsman_file_drift_corrections_total"); err != nil || n != 1 {
		t.Errorf("counted %v (%v), want 1", n, err)
	}
}

// A directory that is not there is one error of check, and one line in the log for each
// thing that needs it.
func TestFile_DirectoryMissing_OneError(t *testing.T) {
	t.Parallel()
	w := fileWorld(t)
	w.must(w.lb.SetConfig("missing/haproxy.cfg"))
	const words = "no such file or directory"
	out, code := sidecar(t, nil, "check", "--config", w.lb.Settings())
	if code != 1 || strings.Count(out, words) != 1 || !strings.Contains(out, filepath.Dir(w.lb.Config())) {
		t.Errorf("check: exit code %d, want 1 and one error of the directory:\n%s", code, out)
	}
	w.must(w.lb.StartSidecar())
	w.failsToWrite(3)
	log := w.lb.Sidecar.Tail(1000)
	told := []string{"haproxy.cfg write failed", "haproxy.cfg cannot be locked", "cannot listen on the Unix socket"} // all that need it
	for _, each := range told {
		if got := strings.Count(log, each); got != 1 {
			t.Errorf("%d lines with %q, want 1", got, each)
		}
	}
	if got := strings.Count(log, words); got != len(told) {
		t.Errorf("%d lines of the directory, want %d:\n%s", got, len(told), log)
	}
}

// Something else has the place of haproxy.cfg's directory, as while a disk is away: the
// sidecar starts all the same, and writes the file once the directory is back.
func TestFile_FileInPlaceOfItsDirectory_StartsAndGoesOn(t *testing.T) {
	t.Parallel()
	w := fileWorld(t)
	w.must(w.lb.SetConfig("taken/haproxy.cfg"))
	place := filepath.Dir(w.lb.Config())
	w.must(os.WriteFile(place, nil, 0o600))
	w.must(w.lb.StartSidecar())
	w.failsToWrite(1)
	w.must(os.Remove(place))
	w.must(os.Mkdir(place, 0o700))
	w.must(lab.Until(w.ctx, 30*time.Second, "the file is written", func() error {
		_, err := os.Stat(w.lb.Config())
		return err
	}))
}
