package contract

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// A KeyError is a key whose value cannot be read.
type KeyError struct {
	Key, Value string
	Want       string // what the value should have been
}

// Error names the key and quotes the value.
func (e *KeyError) Error() string {
	return fmt.Sprintf("meta %q: %s is not %s", e.Key, quote(e.Value), e.Want)
}

// Parse reads the contract's keys and passes over all others. The error joins
// one KeyError for every key that cannot be read; the Meta holds the others,
// and zero for those.
func Parse(meta map[string]string) (Meta, error) {
	var m Meta
	var errs []error
	read := func(key, want string, parse func(string) bool) {
		if v := meta[key]; v != "" && !parse(v) {
			errs = append(errs, &KeyError{Key: key, Value: v, Want: want})
		}
	}
	read(KeyVersion, fmt.Sprintf("at most %d printable ASCII characters", MaxVersion), func(v string) bool {
		return isVersion(v) && set(&m.Version, v)
	})
	read(KeyBackup, "a Boolean (true or false)", func(v string) bool {
		b, err := strconv.ParseBool(v)
		return err == nil && set(&m.Backup, b)
	})
	read(KeyMaxConn, fmt.Sprintf("a whole number from 0 to %d", MaxMaxConn), func(v string) bool {
		n, err := strconv.Atoi(v)
		return err == nil && n >= 0 && n <= MaxMaxConn && set(&m.MaxConn, n)
	})
	read(KeyAgentPort, "a port from 1 to 65535", func(v string) bool {
		n, err := strconv.ParseUint(v, 10, 16)
		return err == nil && n > 0 && set(&m.AgentPort, int(n))
	})
	read(KeyDrain, "an RFC 3339 time such as 2026-01-02T15:04:05Z", func(v string) bool {
		t, err := time.Parse(time.RFC3339, v)
		return err == nil && isWritable(t.UTC()) && set(&m.Leaving, t.UTC())
	})
	return m, errors.Join(errs...)
}

func set[T any](field *T, v T) bool { *field = v; return true }

func isVersion(v string) bool { return isText(v, MaxVersion) }

// isText passes at most a number of printable ASCII characters.
func isText(v string, most int) bool {
	if len(v) > most {
		return false
	}
	for _, c := range []byte(v) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// isWritable refuses the times that Format could not give back: the zero one,
// which means "not leaving", and those whose year in UTC has not four digits.
func isWritable(t time.Time) bool {
	return !t.IsZero() && t.Year() >= 0 && t.Year() <= 9999
}

// quote bounds what a hostile value can add to a log line.
func quote(v string) string {
	const most = 80
	if len(v) > most {
		return fmt.Sprintf("%q… (%d bytes)", v[:most], len(v))
	}
	return strconv.Quote(v)
}
