package consul

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// token gives the ACL token of the moment. It is a secret: it goes into one
// header and nowhere else.
type token struct {
	path string // "" for a fixed token

	mu   sync.Mutex
	last string // guarded by mu; the last that was read
}

// current reads the file again on every call: it is small, queries are rare,
// and no time stamp can then hide a change. A file that is gone or empty, as
// for a moment while it is replaced by hand, leaves the last token in use: to
// ask without one would get an answer with everything filtered out.
func (t *token) current() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.path == "" {
		return t.last, nil
	}
	read, err := readToken(t.path)
	switch {
	case err == nil:
		t.last = read
	case t.last == "":
		return "", err
	}
	return t.last, nil
}

func readToken(path string) (string, error) {
	const most = 4096 // bytes; Consul's tokens are UUIDs of 36
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	read := strings.TrimSpace(string(b))
	switch {
	case read == "":
		return "", fmt.Errorf("token file %s: it is empty", path)
	case len(b) > most:
		return "", fmt.Errorf("token file %s: it has more than %d bytes", path, most)
	case !isHeaderValue(read):
		return "", fmt.Errorf("token file %s: %w", path, errNotPrintable)
	}
	return read, nil
}

var errNotPrintable = errors.New("it holds a space or a character that is not printable ASCII (it is not shown here)")

func isHeaderValue(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
