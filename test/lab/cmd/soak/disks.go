package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// diskKinds are the faults of the disk on which haproxy.cfg is.
func diskKinds(mounted bool) []kind {
	needs := func(f fault) []string { return []string{diskOf(f.lb)} }
	kinds := []kind{{"disk: directory away", time.Second, 6 * time.Second, needs, directoryAway}}
	if mounted {
		kinds = append(kinds,
			kind{"disk full", time.Second, 8 * time.Second, needs, diskFull},
			kind{"disk read-only", time.Second, 8 * time.Second, needs, diskReadOnly})
	}
	return kinds
}

const (
	diskDir  = "disk"     // in a load balancer's directory; a disk of its own where it can be
	fileDir  = "disk/etc" // holds haproxy.cfg
	diskSize = "size=256k"
)

// makeDisk returns the load balancer the directory, on a small disk if there may
// be one.
func (lb *balancer) makeDisk(mount bool) error {
	if err := os.MkdirAll(lb.Path(diskDir), 0o755); err != nil {
		return err
	}
	if mount {
		if err := syscall.Mount("tmpfs", lb.Path(diskDir), "tmpfs", 0, diskSize); err != nil {
			return fmt.Errorf("mount %s: %w", lb.Path(diskDir), err)
		}
	}
	return os.MkdirAll(lb.Path(fileDir), 0o755)
}

// privateMounts keeps what we mount to ourselves.
func privateMounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// saveDisk copies the files from the disk, which goes with us, to where the
// logs are.
func (lb *balancer) saveDisk() error { return os.CopyFS(lb.Path("saved"), os.DirFS(lb.Path(fileDir))) }

// takeDisk takes the disk away, though files on it may be open.
func (lb *balancer) takeDisk() error { return syscall.Unmount(lb.Path(diskDir), syscall.MNT_DETACH) }

func directoryAway(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	dir := lb.Path(fileDir)
	if err := os.Rename(dir, dir+".away"); err != nil {
		return err
	}
	// A file in its place, so that no program makes the directory again.
	blocked := os.WriteFile(dir, nil, 0o644)
	pause(ctx, f.length)
	if err := errors.Join(blocked, os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
		return err
	}
	return lb.fileCurrent(ctx)
}

func diskFull(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	filler := filepath.Join(lb.Path(diskDir), "filler")
	switch err := os.WriteFile(filler, make([]byte, 1<<20), 0o644); {
	case err == nil:
		return fmt.Errorf("%s: the disk is larger than %s", filler, diskSize)
	case !errors.Is(err, syscall.ENOSPC):
		return err
	}
	pause(ctx, f.length)
	if err := os.Remove(filler); err != nil {
		return err
	}
	return lb.fileCurrent(ctx)
}

func diskReadOnly(ctx context.Context, s *site, f fault, _ *hold) error {
	lb := s.lbs[f.lb]
	remount := func(flags uintptr) error {
		// Busy as long as a file is open for writing.
		return lab.Until(ctx, 10*time.Second, "remount "+lb.Path(diskDir), func() error {
			return syscall.Mount("", lb.Path(diskDir), "", syscall.MS_REMOUNT|syscall.MS_BIND|flags, "")
		})
	}
	if err := remount(syscall.MS_RDONLY); err != nil {
		return err
	}
	pause(ctx, f.length)
	if err := remount(0); err != nil {
		return err
	}
	return lb.fileCurrent(ctx)
}
