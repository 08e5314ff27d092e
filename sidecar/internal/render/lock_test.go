package render_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// A file that is open for writing keeps its disk from becoming read-only.
func TestLock_Held_OpenForReadingOnlyAndNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	f, err := render.NewFile(path, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := f.Lock(t.Context(), "lb0", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	text, err := os.ReadFile(path + ".lock")
	if err != nil || !strings.Contains(string(text), "pid "+strconv.Itoa(os.Getpid())+`, name "lb0", since `) {
		t.Errorf("the lock says %q, %v", text, err)
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(open) == 0 {
		t.Fatalf("descriptors: %v, %v", open, err)
	}
	found := false
	for _, fd := range open {
		if at, err := os.Readlink(fd); err != nil || at != path+".lock" {
			continue
		}
		found = true
		info, err := os.ReadFile(strings.Replace(fd, "/fd/", "/fdinfo/", 1))
		if err != nil {
			t.Fatal(err)
		}
		_, flags, _ := strings.Cut(string(info), "flags:\t")
		flags, _, _ = strings.Cut(flags, "\n")
		if mode, err := strconv.ParseInt(flags, 8, 64); err != nil || mode&syscall.O_ACCMODE != syscall.O_RDONLY {
			t.Errorf("open with flags %q, %v; want for reading", flags, err)
		}
	}
	if !found {
		t.Error("the lock's file is not open")
	}
}
