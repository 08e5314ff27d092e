package contract

import (
	"fmt"
	"time"
)

// The meta keys that tell whose a registration is. Consul lets anyone who may
// write a service replace or remove any registration of it; a program that
// finds another owner's under its ID leaves it alone.
const (
	KeyOwner = "pointsman-owner" // a random text of the process: 1 to MaxOwner printable ASCII characters
	KeySince = "pointsman-since" // an RFC 3339 time: when that process registered first, or put its registration back last
)

// MaxOwner bounds an owner, in characters.
const MaxOwner = 64

// Owner is the process that a registration belongs to. The zero value is that
// of a registration which does not say.
type Owner struct {
	Token string
	Since time.Time // in UTC; zero if it does not say
}

// Format returns the keys and values that say o.
func (o Owner) Format() map[string]string {
	out := make(map[string]string, 2)
	if o.Token != "" {
		out[KeyOwner] = o.Token
	}
	if !o.Since.IsZero() {
		out[KeySince] = o.Since.UTC().Format(time.RFC3339)
	}
	return out
}

// ParseOwner reads whose a registration is. What cannot be read counts as not
// said.
func ParseOwner(meta map[string]string) Owner {
	var o Owner
	if CheckOwner(meta[KeyOwner]) == nil {
		o.Token = meta[KeyOwner]
	}
	if t, err := time.Parse(time.RFC3339, meta[KeySince]); err == nil && isWritable(t.UTC()) {
		o.Since = t.UTC()
	}
	return o
}

// CheckOwner returns a KeyError if the text cannot be an owner.
func CheckOwner(token string) error {
	if token == "" || !isText(token, MaxOwner) {
		return &KeyError{Key: KeyOwner, Value: token, Want: fmt.Sprintf("1 to %d printable ASCII characters", MaxOwner)}
	}
	return nil
}
