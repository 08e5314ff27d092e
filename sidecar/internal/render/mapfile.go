package render

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/google/renameio/v2"
)

// mapsCurrent reports whether the map files are as a content says.
func (f *File) mapsCurrent(content []byte) bool {
	for frontend, want := range routesIn(content) {
		if got, err := ReadRegular(MapFile(f.path, frontend)); err != nil || !bytes.Equal(got, want) {
			return false
		}
	}
	return true
}

// writeMaps puts the map files of a content in place: before the file that names
// them, so that a HAProxy that starts in between finds them.
func (f *File) writeMaps(content []byte) error {
	for frontend, want := range routesIn(content) {
		path := MapFile(f.path, frontend)
		if got, err := ReadRegular(path); err == nil && bytes.Equal(got, want) {
			continue
		}
		if err := writeMap(path, want); err != nil {
			return err
		}
	}
	return nil
}

func writeMap(path string, content []byte) error {
	if err := renameio.WriteFile(path, content, 0o644, renameio.WithExistingPermissions()); err != nil {
		return besideError(path, err)
	}
	return nil
}

// addMaps creates the map files of a content that are missing: HAProxy rejects a
// content whose map files it cannot read. Those that are there stay until the
// content is in place. remove takes back what was created.
func (f *File) addMaps(content []byte) (remove func(), err error) {
	var added []string
	remove = func() {
		for _, path := range added {
			_ = os.Remove(path) // it is named by no file
		}
	}
	for _, frontend := range mapsIn(content) {
		path := MapFile(f.path, frontend)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := writeMap(path, routesIn(content)[frontend]); err != nil {
			remove()
			return nil, err
		}
		added = append(added, path)
	}
	return remove, nil
}

// removeMaps removes the map files that a content had and the one after it has not.
func (f *File) removeMaps(before, after []byte) {
	have := mapsIn(after)
	for _, frontend := range mapsIn(before) {
		if !slices.Contains(have, frontend) {
			_ = os.Remove(MapFile(f.path, frontend)) // one that stays is named by no file
		}
	}
}
