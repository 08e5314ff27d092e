// Package snapshot keeps on disk what Consul last said, and what an operator
// has put in drain, so that a sidecar that
// starts while Consul is away knows more than nothing.
//
// Its invariants: the file at the path is always a whole one; what is read is
// just what was written, by a checksum, and every value in it is checked as if
// it came from Consul; a file that is damaged is put aside under a name of its
// own, and never more than that. It imports catalog of ours; only cli and tests
// import it.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// version of the format. A file of another one is put aside: what it means is
// not known here.
const version = "1"

// maxSize bounds what is read, in bytes. 10,000 instances have some 3 MB.
const maxSize = 256 << 20

// DamagedError is a file that could not be used.
type DamagedError struct {
	Path  string // where it was
	Aside string // where it is now; "" if it could not be moved
	Err   error
}

func (e *DamagedError) Error() string {
	if e.Aside == "" {
		return fmt.Sprintf("snapshot: %s is damaged: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("snapshot: %s was damaged, renamed to %s: %v", e.Path, e.Aside, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// File is the snapshot on disk.
type File struct {
	path string
	now  func() time.Time
}

// New names the file. It touches nothing.
func New(path string, now func() time.Time) *File { return &File{path: path, now: now} }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Load reads what was saved; nothing if there is no file. A *DamagedError
// says that the file was put aside; any other, that it could not be read.
func (f *File) Load() ([]catalog.Saved, error) {
	content, err := read(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	saved, err := parse(content)
	if err != nil {
		return nil, f.putAside(err)
	}
	return saved, nil
}

// Save replaces what was saved.
func (f *File) Save(saved []catalog.Saved) error {
	content, err := format(saved)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if err := renameio.WriteFile(f.path, content, 0o600); err != nil {
		return writeError("snapshot", f.path, err)
	}
	return nil
}

// writeError is an error of the file that is to replace one, without its name: that is
// another one each time, and an error that stays is to be logged once.
func writeError(what, path string, err error) error {
	if at, is := errors.AsType[*fs.PathError](err); is {
		err = at.Err
	}
	return fmt.Errorf("%s: write %s: %w", what, path, err)
}

func (f *File) putAside(because error) error {
	aside := f.path + ".damaged-" + f.now().UTC().Format("20060102T150405Z")
	if err := os.Rename(f.path, aside); err != nil {
		return &DamagedError{Path: f.path, Err: errors.Join(because, err)}
	}
	return &DamagedError{Path: f.path, Aside: aside, Err: because}
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > maxSize:
		return nil, fmt.Errorf("%s has %d bytes, want %d at most", path, info.Size(), maxSize)
	}
	return os.ReadFile(path)
}

// head is the first line: what this is, its version, and the checksum of the
// rest.
func head(body []byte) []byte {
	sum := sha256.Sum256(body)
	return []byte("pointsman-snapshot " + version + " sha256:" + hex.EncodeToString(sum[:]) + "\n")
}

// check gives the rest of a file whose first line fits it.
func check(content []byte) ([]byte, error) {
	line, body, found := bytes.Cut(content, []byte("\n"))
	words := bytes.Fields(line)
	switch {
	case !found || len(words) != 3 || string(words[0]) != "pointsman-snapshot":
		return nil, errors.New("not a snapshot file")
	case string(words[1]) != version:
		return nil, fmt.Errorf("version %.20q, want %s", words[1], version)
	case !bytes.Equal(append(line, '\n'), head(body)):
		return nil, errors.New("checksum mismatch")
	}
	return body, nil
}
