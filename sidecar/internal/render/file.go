package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// FilePlaceholder stands in the check command for the path of the file.
const FilePlaceholder = "{file}"

// checkTimeout bounds one run of the check command. HAProxy reads 10,000
// servers in 0.2 s; one that hangs is looking up a name.
const checkTimeout = 30 * time.Second

// RejectedError is a file that HAProxy found invalid.
type RejectedError struct {
	Path   string // of the copy that was kept, with the error in it; "" if none was
	Output string // HAProxy's own words
	Base   string // the operator's file, if the words are about it; else ""
}

func (e *RejectedError) Error() string {
	if e.Base != "" {
		return fmt.Sprintf("render: HAProxy rejects your own %s: %s", e.Base, e.Output)
	}
	saved := ""
	if e.Path != "" {
		saved = ", saved as " + e.Path
	}
	return fmt.Sprintf("render: HAProxy rejects the new configuration%s: %s", saved, e.Output)
}

// Words is what HAProxy said.
func (e *RejectedError) Words() string { return e.Output }

// File is haproxy.cfg on disk.
type File struct {
	path  string
	check []string
	base  string // the operator's file, which is loaded before ours; "" is none

	// mu is held while map files are made: Try removes those that it made.
	mu sync.Mutex
}

// NewFile names the file and the command that validates it, in which
// FilePlaceholder stands for a path. An empty command validates nothing. It
// touches nothing. Where HAProxy loads a base file of the operator's before it, the
// command gets that before the "-f" of ours.
func NewFile(path string, check []string, base string) (*File, error) {
	if path == "" {
		return nil, errors.New("render: no path for haproxy.cfg")
	}
	if len(check) > 0 && !slices.ContainsFunc(check, func(w string) bool { return strings.Contains(w, FilePlaceholder) }) {
		return nil, fmt.Errorf("render: check command %q does not name %s", strings.Join(check, " "), FilePlaceholder)
	}
	if base != "" && len(check) > 0 {
		i := slices.Index(check, FilePlaceholder)
		if i < 1 || check[i-1] != "-f" {
			return nil, fmt.Errorf("render: check command %q does not have -f %s, before which -f %s belongs", strings.Join(check, " "), FilePlaceholder, base)
		}
		check = slices.Insert(slices.Clone(check), i-1, "-f", base)
	}
	return &File{path: path, check: check, base: base}, nil
}

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Exists reports whether there is a file, of whatever content.
func (f *File) Exists() (bool, error) {
	_, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Read returns the file's content; errors wrap fs.ErrNotExist and the like.
func (f *File) Read() ([]byte, error) { return ReadRegular(f.path) }

// ReadRegular reads a configuration of HAProxy. A pipe is an error: it does not wait
// for a writer.
func ReadRegular(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &NotAFileError{Path: path, Type: info.Mode().Type()}
	}
	content := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead)) // io.ReadAll would copy a large one many times
	_, err = content.ReadFrom(file)
	return content.Bytes(), err
}

// NotAFileError says that haproxy.cfg is a pipe, a directory or the like.
type NotAFileError struct {
	Path string
	Type fs.FileMode
}

func (e *NotAFileError) Error() string {
	return fmt.Sprintf("%s: want a regular file, not one of type %s", e.Path, e.Type)
}

// target is where the file is itself, if its path is a symbolic link: the link
// stays.
func (f *File) target() string {
	path := f.path
	for range maxLinks {
		to, err := os.Readlink(path)
		if err != nil {
			return path
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

// maxLinks bounds how many links are followed, one to the next.
const maxLinks = 16

// Write puts the content in place if it differs from what is there, and
// reports whether it did. HAProxy validates it first, from the same directory,
// so that relative names in it mean the same; a rejected file is kept beside
// the file, with the error, as a *RejectedError. The map files that the content
// names go in place just before it. The first time, a file that is
// not ours is kept as PATH.before-pointsman.
func (f *File) Write(ctx context.Context, content []byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, err := f.Read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, fmt.Errorf("render: %w", err)
	case bytes.Equal(old, content) && f.mapsCurrent(content):
		return false, nil
	case !bytes.HasPrefix(old, []byte(Header)):
		if err := f.keep(old); err != nil {
			return false, err
		}
	}
	if err := f.replace(ctx, content); err != nil {
		return false, err
	}
	f.removeMaps(old, content)
	return true, nil
}

// Check asks HAProxy whether the file that is in place is valid. Write has
// asked that of what it wrote; but what the file names, a certificate say, may
// have gone since, and a reload onto what can't be loaded ends the master of
// some versions, and its workers with it (3.2 and 3.4, seen).
func (f *File) Check(ctx context.Context) error {
	content, err := f.Read()
	if err != nil {
		return fmt.Errorf("render: %w", err)
	}
	return f.validate(ctx, f.path, content)
}

// Try asks HAProxy whether a content would be valid in place of the file,
// which stays as it is.
func (f *File) Try(ctx context.Context, content []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	pending, err := f.pending(content)
	if err != nil {
		return err
	}
	defer func() { _ = pending.Cleanup() }() // nothing is put in place
	removeMaps, err := f.addMaps(content)
	if err != nil {
		return err
	}
	defer removeMaps()
	out, err := f.run(ctx, pending.Name())
	if err != nil {
		return err
	}
	if out != "" {
		return f.rejected(f.path+rejectedSuffix, out)
	}
	return nil
}

// Restore puts back a content that HAProxy has run, without asking it again,
// and keeps the present one beside the file with the error that it led to.
func (f *File) Restore(content []byte, because error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now, err := f.Read(); err == nil && !bytes.Equal(now, content) {
		if _, err := f.reject(now, because.Error()); err != nil {
			return err
		}
	}
	if err := f.writeMaps(content); err != nil {
		return err
	}
	if err := renameio.WriteFile(f.target(), content, 0o644, renameio.WithExistingPermissions()); err != nil {
		return besideError(f.path, err)
	}
	return nil
}

func (f *File) replace(ctx context.Context, content []byte) error {
	pending, err := f.pending(content)
	if err != nil {
		return err
	}
	defer func() { _ = pending.Cleanup() }() // does nothing once it is in place
	removeMaps, err := f.addMaps(content)
	if err != nil {
		return err
	}
	if err := f.validate(ctx, pending.Name(), content); err != nil {
		removeMaps()
		return err
	}
	if err := f.writeMaps(content); err != nil {
		return err
	}
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return besideError(f.path, err)
	}
	return nil
}

// pending is a file beside the one in place, with the content.
func (f *File) pending(content []byte) (*renameio.PendingFile, error) {
	path := f.target()
	pending, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return nil, besideError(f.path, err)
	}
	if _, err := pending.Write(content); err != nil {
		_ = pending.Cleanup() // the first error tells more
		return nil, besideError(f.path, err)
	}
	return pending, nil
}

// besideError is an error of a file beside the one in place, without that file's name:
// it is another one each time, and an error that stays is to be logged once.
func besideError(path string, err error) error {
	if at, is := errors.AsType[*fs.PathError](err); is {
		err = at.Err
	}
	if at, is := errors.AsType[*os.LinkError](err); is {
		err = at.Err
	}
	return fmt.Errorf("render: write %s in its directory: %w", path, err)
}

func (f *File) validate(ctx context.Context, path string, content []byte) error {
	words, err := f.run(ctx, path)
	if err != nil || words == "" {
		return err
	}
	words = inSettings(words, f.path, content)
	kept, err := f.reject(content, words)
	if err != nil {
		return err
	}
	return f.rejected(kept, words)
}

// rejected is an error with HAProxy's words.
func (f *File) rejected(kept, words string) error {
	e := &RejectedError{Path: kept, Output: words}
	if isAbout(words, f.base) {
		e.Base = f.base
	}
	return e
}

// run runs the check command on a file, and gives its words if it rejects it.
func (f *File) run(ctx context.Context, path string) (words string, err error) {
	if len(f.check) == 0 {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	args := make([]string, len(f.check))
	for i, w := range f.check {
		args[i] = strings.ReplaceAll(w, FilePlaceholder, path)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "", nil
	}
	if _, ran := errors.AsType[*exec.ExitError](err); !ran || ctx.Err() != nil {
		return "", fmt.Errorf("render: check command %s: %w", args[0], errors.Join(err, ctx.Err()))
	}
	if words = readable(string(out), path, f.path); words == "" {
		words = err.Error() // it says nothing
	}
	return words, nil
}

// rejectedSuffix ends the name of the copy of a rejected file.
const rejectedSuffix = ".rejected"

// reject keeps a content that was rejected, under the error that it was
// rejected with.
func (f *File) reject(content []byte, why string) (string, error) {
	path := f.path + rejectedSuffix
	var b bytes.Buffer
	for line := range strings.Lines(why) {
		b.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
	}
	b.Write(content)
	if err := renameio.WriteFile(path, b.Bytes(), f.mode()); err != nil {
		return "", besideError(path, err)
	}
	return path, nil
}

// keep copies a file that was there before us, once.
func (f *File) keep(old []byte) error {
	path := f.path + ".before-pointsman"
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := renameio.WriteFile(path, old, f.mode()); err != nil {
		return besideError(path, err)
	}
	return nil
}

// mode is the file's, for its copies: it may hold passwords, and they are no
// more readable than it is.
func (f *File) mode() fs.FileMode {
	if info, err := os.Stat(f.path); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}

// maxOutput bounds how much of HAProxy's words go into an error, in bytes.
const maxOutput = 4096

// readable keeps the alerts and warnings, in which the temporary file goes by
// the name that the operator knows.
func readable(out, temporary, path string) string {
	var keep []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(strings.ReplaceAll(line, temporary, path))
		if line != "" && !strings.HasPrefix(line, "[NOTICE]") {
			keep = append(keep, line)
		}
	}
	text := strings.Join(keep, "\n")
	if len(text) > maxOutput {
		text = text[:maxOutput] + "…"
	}
	return text
}
