package render_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

const valid = render.Header + `
defaults
    timeout connect 1s
    timeout client 1s
    timeout server 1s
listen api_nodes
    bind 127.0.0.1:8080
    server api-1 127.0.0.1:4000
`

// invalid has its mistake in line 8.
const invalid = render.Header + `
defaults
    timeout connect 1s
    timeout client 1s
    timeout server 1s
listen api_nodes
    bind 127.0.0.1:8080
    server api-1 127.0.0.1:4000 wieght 1
`

// cfg is a haproxy.cfg in a directory of its own, checked by the real HAProxy.
type cfg struct {
	*render.File
	t   *testing.T
	dir string
}

func newCfg(t *testing.T, check ...string) cfg {
	t.Helper()
	dir := t.TempDir()
	if check == nil {
		check = []string{haproxytest.Binary(t), "-c", "-f", render.FilePlaceholder}
	}
	f, err := render.NewFile(filepath.Join(dir, "haproxy.cfg"), check, "")
	if err != nil {
		t.Fatal(err)
	}
	return cfg{f, t, dir}
}

func (c cfg) write(content string) {
	c.t.Helper()
	if _, err := c.Write(c.t.Context(), []byte(content)); err != nil {
		c.t.Fatal(err)
	}
}

// put makes a file with another program's hands.
func (c cfg) put(name, content string, mode os.FileMode) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		c.t.Fatal(err)
	}
}

func (c cfg) wantContent(name, want string) {
	c.t.Helper()
	got, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	if string(got) != want {
		c.t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// wantFiles compares all the names in the directory: nothing is left behind.
func (c cfg) wantFiles(want ...string) {
	c.t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("got the files %q, want %q", got, want)
	}
}

func (c cfg) wantMode(name string, want os.FileMode) {
	c.t.Helper()
	info, err := os.Stat(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		c.t.Errorf("%s: got mode %o, want %o", name, got, want)
	}
}

func TestWriteMakesTheFile(t *testing.T) {
	c := newCfg(t)
	if exists, err := c.Exists(); exists || err != nil {
		t.Errorf("before: got %v, %v, want that it does not exist", exists, err)
	}
	if _, err := c.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before: got %v, want fs.ErrNotExist", err)
	}
	wrote, err := c.Write(t.Context(), []byte(valid))
	if !wrote || err != nil {
		t.Fatalf("got %v, %v, want written", wrote, err)
	}
	c.wantContent("haproxy.cfg", valid)
	c.wantFiles("haproxy.cfg")
	if exists, err := c.Exists(); !exists || err != nil {
		t.Errorf("after: got %v, %v, want that it exists", exists, err)
	}
	if got, err := c.Read(); string(got) != valid || err != nil {
		t.Errorf("after: got %q, %v", got, err)
	}
}

func TestWriteLeavesAFileThatIsAsItShouldBe(t *testing.T) {
	c := newCfg(t)
	c.write(valid)
	before, err := os.Stat(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	wrote, err := c.Write(t.Context(), []byte(valid))
	if wrote || err != nil {
		t.Errorf("got %v, %v, want not written", wrote, err)
	}
	after, err := os.Stat(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("the file was replaced by its own content")
	}
}

// A program that has the file open reads the old one to its end: it is replaced, and
// not written over.
func TestWriteReplacesTheFileInOneStep(t *testing.T) {
	c := newCfg(t)
	c.write(valid)
	open, err := os.Open(c.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	c.write(valid + "# more\n")
	var got bytes.Buffer
	if _, err := got.ReadFrom(open); err != nil {
		t.Fatal(err)
	}
	if got.String() != valid {
		t.Errorf("got through the open file %q, want the old content", got.String())
	}
	c.wantContent("haproxy.cfg", valid+"# more\n")
	c.wantFiles("haproxy.cfg")
}

func TestWriteKeepsTheMode(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o640, 0o664} {
		t.Run(fmt.Sprintf("%o", mode), func(t *testing.T) {
			c := newCfg(t)
			c.put("haproxy.cfg", valid, mode)
			c.write(valid + "# more\n")
			c.wantMode("haproxy.cfg", mode)
		})
	}
}

// The configuration may hold passwords (stats auth): a copy is no more readable
// than the file.
func TestCopiesAreNoMoreReadableThanTheFile(t *testing.T) {
	c := newCfg(t)
	c.put("haproxy.cfg", "# the operator's own\n", 0o600)
	if _, err := c.Write(t.Context(), []byte(invalid)); err == nil {
		t.Fatal("got no error for an invalid file")
	}
	c.wantMode("haproxy.cfg.before-pointsman", 0o600)
	c.wantMode("haproxy.cfg.rejected", 0o600)
}

func TestWriteKeepsWhatWasThereBeforeUsOnce(t *testing.T) {
	c := newCfg(t)
	const theirs = "# the operator's own\n"
	c.put("haproxy.cfg", theirs, 0o644)
	c.write(valid)
	c.wantContent("haproxy.cfg.before-pointsman", theirs)
	// Whatever stands there later does not push it out.
	c.put("haproxy.cfg", "# the operator's again\n", 0o644)
	c.write(valid)
	c.wantContent("haproxy.cfg.before-pointsman", theirs)
	c.wantContent("haproxy.cfg", valid)
	c.wantFiles("haproxy.cfg", "haproxy.cfg.before-pointsman")
}

func TestWriteOfOursOverOursKeepsNothing(t *testing.T) {
	c := newCfg(t)
	c.write(valid)
	c.write(valid + "# more\n")
	c.wantFiles("haproxy.cfg")
}

func TestARejectedContentKeepsTheOldFileAndHAProxysWords(t *testing.T) {
	c := newCfg(t)
	c.write(valid)
	wrote, err := c.Write(t.Context(), []byte(invalid))
	rejected, ok := errors.AsType[*render.RejectedError](err)
	if wrote || !ok {
		t.Fatalf("got %v, %v, want a RejectedError", wrote, err)
	}
	c.wantContent("haproxy.cfg", valid)
	c.wantFiles("haproxy.cfg", "haproxy.cfg.rejected")
	if want := c.Path() + ".rejected"; rejected.Path != want {
		t.Errorf("got path %s, want %s", rejected.Path, want)
	}
	// The operator's file and line, not the temporary one's.
	for _, want := range []string{"[" + c.Path() + ":8]", "wieght"} {
		if !strings.Contains(rejected.Output, want) {
			t.Errorf("got %q, want it to name %q", rejected.Output, want)
		}
	}
	if strings.Contains(rejected.Output, "NOTICE") || strings.Contains(rejected.Output, c.dir+"/.") {
		t.Errorf("got %q, want no notices and no temporary names", rejected.Output)
	}
	kept, err := os.ReadFile(rejected.Path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimSuffix(string(kept), invalid)) {
		if !strings.HasPrefix(line, "# ") {
			t.Errorf("got the line %q above the content, want comments with HAProxy's words", line)
		}
	}
	if !strings.HasSuffix(string(kept), invalid) || !strings.Contains(string(kept), "wieght") {
		t.Errorf("got\n%s\nwant HAProxy's words and the content below them", kept)
	}
}

func TestARejectedFirstFileMakesNone(t *testing.T) {
	c := newCfg(t)
	if _, err := c.Write(t.Context(), []byte(invalid)); err == nil {
		t.Fatal("got no error for an invalid file")
	}
	c.wantFiles("haproxy.cfg.rejected")
}

// Names in it that are relative mean the same while it is checked.
func TestTheCheckRunsOnAFileInTheSameDirectory(t *testing.T) {
	c := newCfg(t, "/bin/sh", "-c", `test "$(dirname "$1")" = "$2"`, "check", render.FilePlaceholder, "DIR")
	f, err := render.NewFile(c.Path(), []string{"/bin/sh", "-c", `test "$(dirname "$1")" = "$2"`, "check", render.FilePlaceholder, c.dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(t.Context(), []byte(valid)); err != nil {
		t.Error(err)
	}
}

func TestWithoutACheckCommandEverythingIsWritten(t *testing.T) {
	c := newCfg(t, []string{}...)
	f, err := render.NewFile(c.Path(), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(t.Context(), []byte(invalid)); err != nil {
		t.Error(err)
	}
	c.wantContent("haproxy.cfg", invalid)
}

// That the program is missing says nothing about the content.
func TestAMissingCheckProgramIsNoRejection(t *testing.T) {
	c := newCfg(t, "/no/such/haproxy", render.FilePlaceholder)
	_, err := c.Write(t.Context(), []byte(valid))
	if _, rejected := errors.AsType[*render.RejectedError](err); rejected || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error that there is no such program", err)
	}
	if err == nil || !strings.Contains(err.Error(), "/no/such/haproxy") {
		t.Errorf("got %v, want it to name the program", err)
	}
	c.wantFiles()
}

// Its children too: they hold its output open.
func TestACheckThatHangsIsEnded(t *testing.T) {
	c := newCfg(t, "/bin/sh", "-c", "sleep 60 & sleep 60", "check", render.FilePlaceholder)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := c.Write(ctx, []byte(valid))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s, want little more than its deadline and a second for its output", took)
	}
	if _, rejected := errors.AsType[*render.RejectedError](err); rejected || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that its time is over", err)
	}
	c.wantFiles()
}

// What a file names may go after it was written: it is asked about again.
func TestCheckAsksAboutTheFileThatIsInPlace(t *testing.T) {
	named := filepath.Join(t.TempDir(), "certificate")
	if err := os.WriteFile(named, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCfg(t, "/bin/sh", "-c", `test -e "$0" || { echo "[ALERT] no $0"; exit 1; }`, named, render.FilePlaceholder)
	if _, err := c.Write(t.Context(), []byte(valid)); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("while all is there: got %v, want none", err)
	}
	if err := os.Remove(named); err != nil {
		t.Fatal(err)
	}
	rejected, ok := errors.AsType[*render.RejectedError](c.Check(t.Context()))
	if !ok || !strings.Contains(rejected.Output, named) {
		t.Errorf("after it has gone: got %v, want a rejection that names it", rejected)
	}
}

func TestTheErrorHoldsOnlySoMuchOfTheOutput(t *testing.T) {
	c := newCfg(t, "/bin/sh", "-c", `i=0; while [ $i -lt 2000 ]; do echo "[ALERT] line $i"; i=$((i+1)); done; exit 1`, "check", render.FilePlaceholder)
	_, err := c.Write(t.Context(), []byte(valid))
	rejected, ok := errors.AsType[*render.RejectedError](err)
	if !ok || len(rejected.Output) > 5000 || !strings.HasPrefix(rejected.Output, "[ALERT] line 0\n[ALERT] line 1\n") {
		t.Errorf("got %.200v, want the beginning of the output, less than 5000 bytes", err)
	}
}

func TestRestorePutsBackAndKeepsWhatFailed(t *testing.T) {
	c := newCfg(t)
	c.put("haproxy.cfg", valid, 0o640)
	c.write(valid + "# fails to bind\n")
	if err := c.Restore([]byte(valid), errors.New("cannot bind *:80\nsecond line")); err != nil {
		t.Fatal(err)
	}
	c.wantContent("haproxy.cfg", valid)
	c.wantMode("haproxy.cfg", 0o640)
	c.wantContent("haproxy.cfg.rejected", "# cannot bind *:80\n# second line\n"+valid+"# fails to bind\n")
	c.wantFiles("haproxy.cfg", "haproxy.cfg.rejected")
}

func TestRestoreOfWhatIsThereKeepsNothing(t *testing.T) {
	c := newCfg(t)
	c.write(valid)
	if err := c.Restore([]byte(valid), errors.New("no")); err != nil {
		t.Fatal(err)
	}
	c.wantFiles("haproxy.cfg")
}

func TestRestoreAsksHAProxyNothing(t *testing.T) {
	c := newCfg(t, "/no/such/haproxy", render.FilePlaceholder)
	if err := c.Restore([]byte(valid), errors.New("no")); err != nil {
		t.Fatal(err)
	}
	c.wantContent("haproxy.cfg", valid)
}

func TestNewFileChecksItsArguments(t *testing.T) {
	for _, c := range []struct {
		name, path string
		check      []string
		want       string
	}{
		{"no path", "", nil, "no path"},
		{"a check that checks nothing", "/x", []string{"haproxy", "-c"}, `"haproxy -c" does not name {file}`},
		{"the place within a word", "/x", []string{"haproxy", "--file={file}"}, ""},
		{"no check", "/x", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := render.NewFile(c.path, c.check, "")
			if got := err != nil; got != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestADirectoryThatCannotBeWrittenIsNamed(t *testing.T) {
	f, err := render.NewFile(filepath.Join(t.TempDir(), "missing", "haproxy.cfg"), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(t.Context(), []byte(valid)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v, want an error that names the directory", err)
	}
}

// An error that stays is logged once, so it is the same each time.
func TestWrite_DirectoryMissing_SameErrorEachTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "haproxy.cfg")
	f, err := render.NewFile(path, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	_, first := f.Write(t.Context(), []byte("a\n"))
	_, second := f.Write(t.Context(), []byte("b\n"))
	if !errors.Is(first, fs.ErrNotExist) || !strings.Contains(first.Error(), path) || first.Error() != second.Error() {
		t.Errorf("got %v, then %v, want the same error twice, with the path", first, second)
	}
}
