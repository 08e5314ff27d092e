package certificate

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Bound reads when the certificates expire that bind lines name by `crt`: files, and
// directories of files (HAProxy's configuration manual 5.1). HAProxy loads them itself,
// and checks them; here only the first certificate of each is read. A relative path is
// passed over: HAProxy looks for it by its own directory and crt-base.
//
// One Bound is for one goroutine.
type Bound struct{ cache cache }

// NewBound reads nothing yet.
func NewBound(now func() time.Time) *Bound { return &Bound{cache: cache{load: leaf, now: now}} }

// Read returns the certificates of the bind lines of one owner by path, each once and
// 10,000 at most, and the paths that cannot be read.
func (b *Bound) Read(binds []string) (all []Certificate, problems []Problem) {
	var paths []string
	for _, line := range binds {
		words := strings.Fields(line)
		for i, w := range words[:max(0, len(words)-1)] {
			if w == "crt" && filepath.IsAbs(words[i+1]) {
				paths = append(paths, words[i+1])
			}
		}
	}
	slices.Sort(paths)
	seen := map[string]bool{}
	for _, path := range slices.Compact(paths) {
		files, err := filesOf(path)
		if err != nil {
			problems = append(problems, Problem{Source: path, Err: err})
		}
		for _, file := range files {
			if seen[file] || len(seen) == maxCertificates {
				continue
			}
			seen[file] = true
			c, err := b.cache.get(file, []string{file})
			if err != nil {
				problems = append(problems, Problem{Source: file, Err: err})
				continue
			}
			all = append(all, c)
		}
	}
	return all, problems
}

// Turn begins a look at all owners. What the last two have not asked for is forgotten.
func (b *Bound) Turn() { b.cache.turn() }

// bundle are the ends of the files that HAProxy loads in place of one that is not there:
// a certificate for each kind of key (configuration manual 3.2, ssl-load-extra-files).
var bundle = []string{".ecdsa", ".rsa", ".dsa"}

// filesOf returns a file, or the files of a directory that HAProxy loads as certificates:
// those with the ends of what belongs to one are none.
func filesOf(path string) (files []string, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		for _, kind := range bundle {
			if _, err := os.Stat(path + kind); err == nil {
				files = append(files, path+kind)
			}
		}
	}
	switch {
	case len(files) > 0:
		return files, nil
	case err != nil:
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		file := filepath.Join(path, e.Name())
		if slices.Contains([]string{".issuer", ".ocsp", ".sctl", ".key"}, filepath.Ext(file)) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			continue
		}
		files = append(files, file)
	}
	return files, err
}

// leaf is a loader of the first certificate of a file.
func leaf(name string, files []string) (Certificate, error) {
	content, err := readFile(files[0])
	if err != nil {
		return Certificate{}, err
	}
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return Certificate{}, errors.New("no certificate in it")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Certificate{}, fmt.Errorf("certificate: %w", err)
		}
		return Certificate{Name: name, Source: files[0], Names: namesOf(c), NotAfter: c.NotAfter}, nil
	}
}
