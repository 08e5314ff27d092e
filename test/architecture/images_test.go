package architecture

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Each program of the images is compiled from the folders that its stage copies, and
// .dockerignore lets them in.
func TestDockerfile_EachProgram_HasWhatItImports(t *testing.T) {
	read := func(name string) string {
		content, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	letIn := strings.Fields(read(".dockerignore"))
	var copied []string
	programs := 0
	for line := range strings.Lines(read("compose/Dockerfile")) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "FROM":
			copied = nil
		case words[0] == "COPY" && len(words) == 3:
			copied = append(copied, words[1])
		case words[0] == "RUN" && strings.HasPrefix(words[len(words)-1], "./"):
			programs++
			program := words[len(words)-1]
			for _, dir := range foldersOf(t, program) {
				if !slices.Contains(copied, dir) || !slices.Contains(letIn, "!"+dir) {
					t.Errorf("%s imports packages of %s, which its stage of compose/Dockerfile or .dockerignore leaves out", program, dir)
				}
			}
		}
	}
	if programs < 4 {
		t.Errorf("compose/Dockerfile builds %d programs, want at least 4: is it read right?", programs)
	}
}

// foldersOf returns the top folders of the repository that a program is made from.
func foldersOf(t *testing.T, program string) []string {
	t.Helper()
	const module = "github.com/pointsman/pointsman/"
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", program)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for line := range strings.Lines(string(out)) {
		if path, isOurs := strings.CutPrefix(strings.TrimSpace(line), module); isOurs {
			dir, _, _ := strings.Cut(path, "/")
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
