// Package manpages makes the manual pages of a program of its commands, as a test: so no
// program has the generator in it.
//
// Only tests of command lines import it.
package manpages

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var (
	dir     = flag.String("man", "", "directory for the manual pages (default: one that the test removes)")
	version = flag.String("man-version", "", "version in the manual pages")
)

// Check writes a page of section 1 for a program and each of its commands: program.1,
// program-command.1 and so on. Each must say what the command's help says, in what man
// understands (where mandoc or groff is installed). Dates are those of SOURCE_DATE_EPOCH.
func Check(t *testing.T, root *cobra.Command) {
	t.Helper()
	into := *dir
	if into == "" {
		into = t.TempDir()
	}
	root.DisableAutoGenTag = true // no "generated on"
	header := doc.GenManHeader{Section: "1", Source: strings.TrimSpace("Pointsman " + *version), Manual: "Pointsman"}
	if err := doc.GenManTree(root, &header, into); err != nil {
		t.Fatal(err)
	}
	check(t, root, into)
}

func check(t *testing.T, cmd *cobra.Command, dir string) {
	t.Helper()
	page := filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")
	if cmd.Long == "" && cmd.Short == "" {
		t.Errorf("%s has no description", cmd.CommandPath())
	}
	text, err := rendered(t, page)
	if err != nil {
		t.Error(err)
	}
	for word := range strings.FieldsSeq(cmd.Short + " " + cmd.Long) {
		if !strings.Contains(text, strings.Trim(word, "`")) {
			t.Errorf("%s has no %q of the command's help", filepath.Base(page), word)
		}
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			check(t, c, dir)
		}
	}
}

// rendered is the text of a page as man shows it; without a program for that, its source.
func rendered(t *testing.T, page string) (string, error) {
	for _, with := range [][]string{{"mandoc", "-T", "utf8", "-O", "width=1000"}, {"groff", "-man", "-Tutf8", "-P-c", "-rLL=1000n"}} {
		if path, err := exec.LookPath(with[0]); err == nil {
			out, err := exec.CommandContext(t.Context(), path, append(with[1:], page)...).Output() //nolint:gosec // one of two
			return string(bytes.ReplaceAll(out, []byte("\b"), nil)), err
		}
	}
	out, err := os.ReadFile(page) //nolint:gosec // of the test
	return strings.ReplaceAll(string(out), `\`, ""), err
}
