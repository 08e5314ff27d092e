package config

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that no log, error, dump or page may show. It prints as ***
// in every way that Go prints a value; only Reveal gives it away.
type Secret string

const mask = "***"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns the mask, or "" if there is no secret: whether one is set is
// worth knowing and no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format makes every verb of fmt print String.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText makes JSON and other encodings print String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML makes YAML print String.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// LogValue makes slog print String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
