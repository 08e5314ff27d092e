package config

import (
	"errors"
	"fmt"
	"strings"
)

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

// command passes one word of a command, which no shell sees.
func command(s string) error {
	if s == "" {
		return errors.New("must not be empty")
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
