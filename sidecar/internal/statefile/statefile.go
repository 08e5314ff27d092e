// Package statefile keeps on disk what neither Consul nor HAProxy knows and what
// the sidecar must still know after a restart: what an operator has put in drain.
// What Consul last said is in haproxy.cfg.
//
// The file at the path is always a whole one, of one version. One that is damaged,
// or of another version, is put aside under a name of its own, and never guessed at.
package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// version of the format.
const version = 1

// maxSize bounds what is read, in bytes.
const maxSize = 16 << 20

type content struct {
	Version int                     `json:"version"`
	Drains  []catalog.OperatorDrain `json:"drains"`
}

// DamagedError is a file that could not be used.
type DamagedError struct {
	Path  string // where it was
	Aside string // where it is now; "" if it was not moved
	Err   error
}

func (e *DamagedError) Error() string {
	if e.Aside == "" {
		return fmt.Sprintf("state file %s is damaged: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("state file %s was damaged, renamed to %s: %v", e.Path, e.Aside, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// File is the state on disk.
type File struct {
	path string
	now  func() time.Time
}

// New names the file. It touches nothing.
func New(path string, now func() time.Time) *File { return &File{path: path, now: now} }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Load is Read, but that a file that is damaged is put aside: a *DamagedError.
func (f *File) Load() ([]catalog.OperatorDrain, error) {
	list, err := f.Read()
	if damaged, is := errors.AsType[*DamagedError](err); is {
		aside := f.path + ".damaged-" + f.now().UTC().Format("20060102T150405Z")
		if err := os.Rename(f.path, aside); err != nil {
			return nil, &DamagedError{Path: f.path, Err: errors.Join(damaged.Err, err)}
		}
		damaged.Aside = aside
	}
	return list, err
}

// Read reads what was saved; nothing if there is no file. It changes nothing.
func (f *File) Read() ([]catalog.OperatorDrain, error) {
	text, err := read(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	var saved content
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&saved)
	if err == nil && saved.Version != version {
		err = fmt.Errorf("version %d, want %d", saved.Version, version)
	}
	if err != nil {
		return nil, &DamagedError{Path: f.path, Err: err}
	}
	return saved.Drains, nil
}

// Save replaces what was saved.
func (f *File) Save(drains []catalog.OperatorDrain) error {
	text, err := json.MarshalIndent(content{version, drains}, "", "  ")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	if err := renameio.WriteFile(f.path, append(text, '\n'), 0o600); err != nil {
		// The error names the file that is to replace this one, another each time; an
		// error that stays is to be logged once.
		if at, is := errors.AsType[*fs.PathError](err); is {
			err = at.Err
		}
		return fmt.Errorf("state file: write %s: %w", f.path, err)
	}
	return nil
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
