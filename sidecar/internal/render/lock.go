package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Lock is held by the one sidecar that writes a haproxy.cfg and reloads HAProxy
// onto it. The kernel ends it with the process: a crash leaves the lock's file,
// which says who held it, and no lock.
type Lock struct{ file *os.File }

// HeldError says that another sidecar writes the file.
type HeldError struct {
	Path   string // of haproxy.cfg
	Holder string // who: pid, name, since
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("haproxy.config %s: another sidecar writes this file: %s; stop it first, or give each HAProxy a file of its own", e.Path, e.Holder)
}

const (
	// lockSuffix ends the name of the lock's file.
	lockSuffix = ".lock"
	// lockRetry is how often a lock that is held is tried.
	lockRetry = 100 * time.Millisecond
	// maxHolder bounds what is read of a lock's file, in bytes.
	maxHolder = 512
)

// Lock takes the lock for the sidecar of that name. One that is held is waited
// for until patience is over, then the error is a *HeldError: a sidecar that
// stops holds it until it has ended. Any other error says that there can be no
// lock, as on a disk that is read-only.
func (f *File) Lock(ctx context.Context, name string, patience time.Duration) (*Lock, error) {
	path := f.target() + lockSuffix
	// The file is never removed: who has it open would lock another one. And only
	// the same user may open it: who can read a file can lock it. It is open for
	// reading, because one for writing keeps its disk from becoming read-only.
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("render: lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = file.Close() // the first error tells more
			return nil, fmt.Errorf("render: lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			holder := holderIn(file)
			_ = file.Close() // it was read only
			return nil, &HeldError{Path: f.path, Holder: holder}
		case <-time.After(lockRetry):
		}
	}
	sayHolder(path, name)
	return &Lock{file: file}, nil
}

// Holder tells who holds the lock on a haproxy.cfg: pid, name, since. It is "" where
// none does, and where that cannot be seen.
func Holder(path string) string {
	file, err := os.OpenFile((&File{path: path}).target()+lockSuffix, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // it was read only, and a lock of ours ends with it
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		return ""
	}
	return holderIn(file)
}

// sayHolder writes who holds the lock. A disk that is full or read-only takes no
// text, and the lock holds all the same.
func sayHolder(path, name string) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(file, "pid %d, name %s, since %s\n", os.Getpid(), strconv.Quote(name), time.Now().UTC().Format(time.RFC3339))
	_ = file.Close() // see above
}

// holderIn reads who holds the lock.
func holderIn(file *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(file, 0, maxHolder))
	if holder := strings.TrimSpace(string(text)); err == nil && holder != "" {
		return holder
	}
	return file.Name() + " does not say which one"
}

// Release ends the lock.
func (l *Lock) Release() {
	if l != nil {
		_ = l.file.Close() // nothing is lost with it
	}
}
