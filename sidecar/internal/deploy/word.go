package deploy

import (
	"errors"
	"fmt"
	"strings"
)

// maxWord is the longest text of the catalog that a command gets, in bytes.
const maxWord = 256

// CheckWord refuses what is not safe in the hands of an operator's shell
// command: anyone who can register chooses an instance's ID, and not every
// command quotes its variables. What passes is one word to a shell, no pattern,
// and no option.
func CheckWord(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxWord:
		return fmt.Errorf("is longer than %d bytes", maxWord)
	case s[0] == '-':
		return errors.New("begins with '-', so a command would take it for an option")
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("-_.:/@+,=%", c) < 0 {
			return fmt.Errorf("contains the character %q, which is not passed to commands", c)
		}
	}
	return nil
}

// Quote shows text from outside: escaped, so that it cannot pretend to be
// something else on a terminal, and cut.
func Quote(s string) string {
	const most = 300 // bytes
	s = strings.TrimSpace(s)
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}
