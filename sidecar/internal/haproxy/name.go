package haproxy

import (
	"fmt"
	"strings"
)

// checkName refuses what is not a legal name of a backend or server
// (configuration manual, section 2). The package that made the name has checked it too;
// here a newline or a ';' would be another command.
func checkName(what, name string) error {
	if name == "" {
		return fmt.Errorf("%s: no name", what)
	}
	for _, c := range []byte(name) {
		legal := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == ':'
		if !legal {
			return fmt.Errorf("%s %q: byte %q is not legal in a name", what, name, c)
		}
	}
	return nil
}

// optionsBytes are the bytes that mean something to HAProxy's command line
// beside what they mean in its file: they end a command, begin a comment,
// quote, escape, or announce a payload.
const optionsBytes = ";#\"'\\<"

// maxOptionsWords keeps `add server` below HAProxy's 64 words with all that
// stands before and after the options.
const maxOptionsWords = 50

// checkOptions refuses options that could not be sent as they stand.
func checkOptions(options string) error {
	for _, c := range []byte(options) {
		if c < ' ' || c > '~' || strings.IndexByte(optionsBytes, c) >= 0 {
			return fmt.Errorf("options %q: byte %q cannot be sent to HAProxy", options, c)
		}
	}
	if n := len(strings.Fields(options)); n > maxOptionsWords {
		return fmt.Errorf("options %q: %d words, HAProxy takes at most %d", options, n, maxOptionsWords)
	}
	return nil
}

// maxWeight is HAProxy's heaviest server (configuration manual 5.2, "weight").
const maxWeight = 256
