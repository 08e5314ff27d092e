package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// oneLine passes any text of one line.
func oneLine(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("must be UTF-8")
	}
	for _, r := range s {
		if r != '\t' && unicode.IsControl(r) {
			return fmt.Errorf("must not contain the control character %q", r)
		}
	}
	return nil
}

// orEmpty lets the empty text pass, too.
func orEmpty(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

// word passes text that is one argument wherever it is put: in a query, in
// haproxy.cfg, or in a line on the socket.
func word(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	if i := strings.IndexFunc(s, unicode.IsSpace); i >= 0 {
		return errors.New("must not contain a space")
	}
	return plainWords(s)
}

// plainWords passes text that HAProxy splits at its spaces and takes as it is,
// in haproxy.cfg and on the socket alike: quotes and backslashes mean
// something else there, '#' begins a comment and ';' another command.
func plainWords(s string) error {
	if err := oneLine(s); err != nil {
		return err
	}
	if i := strings.IndexAny(s, "\t\"'\\#;"); i >= 0 {
		return fmt.Errorf("must not contain the character %q", s[i])
	}
	return nil
}

// maxName is the longest name that is taken: that of a host.
const maxName = 253

// name passes names that are legal in Consul and, except ':', as HAProxy
// spells them (its manual, section 2).
func name(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	if len(s) > maxName {
		return fmt.Errorf("is longer than %d bytes", maxName)
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r) {
			return errors.New("may contain only letters, digits, '-', '_' and '.'")
		}
	}
	return nil
}

// someLine passes a text of one line that is not empty: one of Consul's tags, which are
// compared and reach nothing else, or a word of a command, which no shell sees.
func someLine(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return oneLine(s)
}

// userPassword passes what basic authentication takes (RFC 7617, section 2).
func userPassword(s string) error {
	if strings.Contains(s, "\t") { // the one that oneLine lets pass
		return fmt.Errorf("must not contain the control character %q", '\t')
	}
	return oneLine(s)
}

// token passes what stands in a header as it is, as credential.CheckToken does
// for the token of a file.
func token(s string) error {
	if err := userPassword(s); err != nil {
		return err
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || r > '~' }) {
		return errors.New("must contain only printable ASCII characters and no space")
	}
	return nil
}

// path passes the path of a file.
func path(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	if strings.Contains(s, "://") {
		return errors.New("must be a path, not a URL")
	}
	return oneLine(s)
}

// program passes a command as a whole. One item with spaces is a command line
// that no shell will split.
func program(items []string) error {
	if len(items) == 1 && strings.ContainsRune(items[0], ' ') {
		return fmt.Errorf("is run without a shell: write a list, [%s]", strings.Join(strings.Fields(items[0]), ", "))
	}
	return nil
}

const filePlaceholder = "{file}"

func checkProgram(items []string) error {
	if err := program(items); err != nil {
		return err
	}
	if len(items) > 0 && !strings.Contains(strings.Join(items, "\n"), filePlaceholder) {
		return errors.New("must name the file to check by " + filePlaceholder)
	}
	return nil
}

// wordPath passes a path that is one word of haproxy.cfg.
func wordPath(s string) error {
	if err := path(s); err != nil {
		return err
	}
	return word(s)
}
