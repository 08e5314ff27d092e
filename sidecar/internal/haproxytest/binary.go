package haproxytest

import (
	"os"
	"os/exec"
	"testing"
)

// Binary returns the HAProxy under test: the environment's HAPROXY, else the one
// on PATH, else Debian's place for it. With -short, which is `make unit`, it
// skips the test.
func Binary(tb testing.TB) string {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs HAProxy: run `make test`")
	}
	if path := os.Getenv("HAPROXY"); path != "" {
		return path
	}
	if path, err := exec.LookPath("haproxy"); err == nil {
		return path
	}
	const debian = "/usr/sbin/haproxy" // not on a user's PATH
	if _, err := os.Stat(debian); err != nil {
		tb.Fatalf("no HAProxy: neither in HAPROXY, nor on PATH, nor %s; run `make tools`", debian)
	}
	return debian
}
