package credential

import (
	"errors"
	"fmt"
	"strings"
)

// maxToken is the size of a file of tokens, in bytes. Consul's tokens are UUIDs of 36.
const maxToken = 4096

var errEmpty = errors.New("empty")

// NewToken returns the token of a file, if a path is given, else a fixed one, which may
// be empty. The file need not be there yet.
func NewToken(fixed, path string) *File[string] {
	if path == "" {
		return &File[string]{last: fixed}
	}
	return &File[string]{what: "token file", paths: []string{path}, most: maxToken, parse: func(contents [][]byte) (string, error) {
		token := strings.TrimSpace(string(contents[0]))
		if token == "" {
			return "", errEmpty
		}
		return token, CheckToken(token)
	}}
}

// NewSigningKeys returns the keys of a file, one or more, one a line, each of which check
// accepts. The file need not be there yet.
func NewSigningKeys(path string, check func(key string) error) *File[[]string] {
	return &File[[]string]{what: "signing key file", paths: []string{path}, most: maxToken, parse: func(contents [][]byte) ([]string, error) {
		keys := strings.Fields(string(contents[0]))
		if len(keys) == 0 {
			return nil, errEmpty
		}
		for i, key := range keys {
			if err := check(key); err != nil {
				return nil, fmt.Errorf("key %d: %w", i+1, err)
			}
		}
		return keys, nil
	}}
}

var errNotPrintable = errors.New("contains a space or a character that is not printable ASCII (not shown)")

// CheckToken refuses what can't stand in a header.
func CheckToken(s string) error {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return errNotPrintable
		}
	}
	return nil
}
