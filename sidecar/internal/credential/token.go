package credential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// Token is a bearer's secret: it goes into one header and nowhere else. The
// zero value is none. A Token must not be copied.
type Token struct {
	path  string // "" for a fixed token
	first bool   // the file may have more, of which this is the first

	mu   sync.Mutex
	last string // guarded by mu; the last that was read
}

// NewToken gives the token of a file, if a path is given, else a fixed one.
// The file need not be there yet.
func NewToken(fixed, path string) *Token {
	if path != "" {
		return &Token{path: path} // the file wins, and its absence must be seen
	}
	return &Token{last: fixed}
}

// NewFirstKey gives the first key of a file that may have several, one a line.
func NewFirstKey(path string) *Token { return &Token{path: path, first: true} }

// Current gives the token of the moment; "" if there is none. It reads the file
// again on every call: it is small, and no time stamp can then hide a change. A
// file that is gone or empty, as for a moment while it is replaced by hand,
// leaves the last token in use: to ask Consul without one, say, would get an
// answer with everything filtered out.
func (t *Token) Current() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.path == "" {
		return t.last, nil
	}
	read, err := readToken(t.path, t.first)
	switch {
	case err == nil:
		t.last = read
	case t.last == "":
		return "", err
	}
	return t.last, nil
}

func readToken(path string, first bool) (string, error) {
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
	if first {
		read, _, _ = strings.Cut(read, "\n")
		read = strings.TrimSpace(read)
	}
	switch {
	case read == "":
		return "", fmt.Errorf("token file %s: empty", path)
	case len(b) > most:
		return "", fmt.Errorf("token file %s: larger than %d bytes", path, most)
	case CheckToken(read) != nil:
		return "", fmt.Errorf("token file %s: %w", path, CheckToken(read))
	}
	return read, nil
}

var errNotPrintable = errors.New("contains a space or a character that is not printable ASCII (not shown)")

// CheckToken refuses what can't stand in a header.
func CheckToken(s string) error {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return errNotPrintable
		}
	}
	return nil
}
