package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Drains keeps on disk what an operator has put in drain.
type Drains struct{ file File }

// NewDrains names the file. It touches nothing.
func NewDrains(path string, now func() time.Time) *Drains { return &Drains{File{path, now}} }

// Path is where the file is.
func (d *Drains) Path() string { return d.file.path }

// drainsVersion is that of the format.
const drainsVersion = 1

type drains struct {
	Version int                     `json:"version"`
	Drains  []catalog.OperatorDrain `json:"drains"`
}

// Load is Read, but that a file that is damaged is put aside: a *DamagedError.
func (d *Drains) Load() ([]catalog.OperatorDrain, error) {
	list, err := d.Read()
	if damaged, is := errors.AsType[*DamagedError](err); is {
		return nil, d.file.putAside(damaged.Err)
	}
	return list, err
}

// Read reads what was saved; nothing if there is no file. It changes nothing.
func (d *Drains) Read() ([]catalog.OperatorDrain, error) {
	content, err := read(d.file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("operator drains: %w", err)
	}
	var saved drains
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&saved)
	if err == nil && saved.Version != drainsVersion {
		err = fmt.Errorf("version %d, want %d", saved.Version, drainsVersion)
	}
	if err != nil {
		return nil, &DamagedError{Path: d.file.path, Err: err}
	}
	return saved.Drains, nil
}

// Save replaces what was saved.
func (d *Drains) Save(list []catalog.OperatorDrain) error {
	content, err := json.MarshalIndent(drains{drainsVersion, list}, "", "  ")
	if err != nil {
		return fmt.Errorf("operator drains: %w", err)
	}
	if err := renameio.WriteFile(d.file.path, append(content, '\n'), 0o600); err != nil {
		return writeError("operator drains", d.file.path, err)
	}
	return nil
}
