package program

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// defaultPath is searched where PATH is not set, as execvp(3) does.
const defaultPath = "/bin:/usr/bin"

// find returns the file that a name stands for, as a shell does (POSIX, Command
// Search and Execution): a name with a slash is the file itself, any other is
// searched for in path. An error is syscall.ENOENT if there is no such file,
// and syscall.EACCES if there are only ones that may not be executed.
//
// Not exec.LookPath: it takes what may not be executed for what is not there,
// and refuses the current directory.
func find(name, path string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	if name == "" {
		return "", syscall.ENOENT
	}
	missing := error(syscall.ENOENT)
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name // filepath.Join would drop "./", which execve takes for the same, but ps shows
		switch err := executable(file); {
		case err == nil:
			return file, nil
		case errors.Is(err, fs.ErrPermission):
			missing = syscall.EACCES
		}
	}
	return "", missing
}

// executable reports whether a file may be executed. A directory of that name is
// passed over, as shells do.
func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return syscall.ENOENT
	}
	return unix.Access(file, unix.X_OK)
}

// searchPath is the value of PATH in environ.
func searchPath(environ []string) string {
	for _, entry := range environ {
		if path, ok := strings.CutPrefix(entry, "PATH="); ok {
			return path
		}
	}
	return defaultPath
}
