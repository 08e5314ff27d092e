package certificate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// Store is the copies that HAProxy loads, and the list of them.
type Store struct {
	dir  string // absolute: HAProxy knows a certificate by its path
	list string
}

// listName is the crt-list's, in the directory of the copies.
const listName = "crt-list"

// NewStore names the directory. It touches nothing.
func NewStore(dir string) Store { return Store{dir: dir, list: filepath.Join(dir, listName)} }

// List is the path of the crt-list.
func (s Store) List() string { return s.list }

func (s Store) path(name string) string { return filepath.Join(s.dir, name+".pem") }

// Saved reads the copies, in the order of the list. The first is HAProxy's default.
func (s Store) Saved() ([]Certificate, error) { return s.saved(load) }

func (s Store) saved(load loader) ([]Certificate, error) {
	content, err := os.ReadFile(s.list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	var all []Certificate
	for line := range strings.Lines(string(content)) {
		path := strings.TrimSpace(line)
		name, ours := strings.CutSuffix(strings.TrimPrefix(path, s.dir+"/"), ".pem")
		if !ours || !isName(name) || path != s.path(name) {
			continue
		}
		if c, err := load(name, []string{path}); err == nil {
			all = append(all, c)
		}
	}
	return all, nil
}

// Want is what is to be kept: the good ones, and of those that have become unusable the
// saved ones. What comes new goes to the end, so that the default stays.
func Want(saved, good []Certificate, broken []string) (want []Certificate) {
	for _, old := range saved {
		i := slices.IndexFunc(good, func(c Certificate) bool { return c.Name == old.Name })
		switch {
		case i >= 0:
			want = append(want, good[i])
		case slices.Contains(broken, old.Name):
			want = append(want, old)
		}
	}
	for _, c := range good {
		if !slices.ContainsFunc(want, func(w Certificate) bool { return w.Name == c.Name }) {
			want = append(want, c)
		}
	}
	return want
}

// Save puts the copies and the list in place, in this order, so that each is whole at
// any moment. It removes none: HAProxy may still name it.
func (s Store) Save(want []Certificate) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	var list bytes.Buffer
	for _, c := range want {
		fmt.Fprintln(&list, s.path(c.Name))
		if err := write(s.path(c.Name), c.pem); err != nil {
			return err
		}
	}
	return write(s.list, list.Bytes())
}

func write(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := renameio.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("certificates: write %s: %w", path, err)
	}
	return nil
}

// Clean removes the copies that the list does not have.
func (s Store) Clean(want []Certificate) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name, is := strings.CutSuffix(e.Name(), ".pem")
		if is && !slices.ContainsFunc(want, func(c Certificate) bool { return c.Name == name }) {
			errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
