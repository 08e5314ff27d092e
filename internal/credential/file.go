package credential

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// File is a value that is read from one or more files. It must not be copied.
type File[T any] struct {
	what  string // such as "token file", for errors
	paths []string
	most  int64 // bytes of each file
	parse func(contents [][]byte) (T, error)

	mu       sync.Mutex
	contents [][]byte // that last was made from; nil before the first
	last     T
}

// Current returns the value of the moment. The files are read on each call. If one
// cannot be read, or they hold no such value, as in the middle of a rotation, the last
// good one is returned; the error says why there has been none yet.
func (f *File[T]) Current() (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.read(); err != nil && f.contents == nil {
		return f.last, err
	}
	return f.last, nil
}

func (f *File[T]) read() error {
	contents := make([][]byte, len(f.paths))
	for i, path := range f.paths {
		var err error
		if contents[i], err = readFile(path, f.most); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
	}
	if slices.EqualFunc(contents, f.contents, bytes.Equal) {
		return nil
	}
	value, err := f.parse(contents)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", f.what, f.paths[0], err)
	}
	f.contents, f.last = contents, value
	return nil
}

// readFile reads a file of at most a number of bytes. Its errors name the path.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s: larger than %d bytes", path, most)
	}
	return content, err
}
