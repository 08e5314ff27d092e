package registrator

import (
	"fmt"
	"io"
)

// Secret is a text that no log and no dump of a configuration shows.
type Secret string

// Format shows *** for every verb.
func (s Secret) Format(f fmt.State, _ rune) {
	if s != "" {
		_, _ = io.WriteString(f, "***")
	}
}

// MarshalText shows *** to what encodes it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(s)), nil }
