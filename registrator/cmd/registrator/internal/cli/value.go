package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/pointsman/pointsman/registrator/contract"
)

// value is a setting that is checked when it is read, so that a bad one is
// named by where it comes from, flag or variable.
type value[T any] struct {
	to    *T
	text  string // as it was set, or of the default
	kind  string // what help shows after the flag
	parse func(string) (T, error)
}

func (v *value[T]) String() string { return v.text }
func (v *value[T]) Type() string   { return v.kind }

func (v *value[T]) Set(s string) error {
	parsed, err := v.parse(s)
	if err == nil {
		*v.to, v.text = parsed, s
	}
	return err
}

// list is a setting that may be given again and again. Each flag is one entry
// as it is; a variable holds several, separated by commas.
type list[T any] struct {
	to    *[]T
	kind  string
	parse func(string) (T, error)
}

func (l *list[T]) String() string { return "" }
func (l *list[T]) Type() string   { return l.kind }

func (l *list[T]) Set(s string) error {
	parsed, err := l.parse(s)
	if err == nil {
		*l.to = append(*l.to, parsed)
	}
	return err
}

// SetSeveral takes a variable's value: "a,b",c is two entries.
func (l *list[T]) SetSeveral(text string) error {
	r := csv.NewReader(strings.NewReader(text))
	r.LazyQuotes = true
	entries, err := r.Read()
	if err != nil {
		return fmt.Errorf("want entries separated by commas: %w", err)
	}
	for _, entry := range entries {
		if err := l.Set(entry); err != nil {
			return fmt.Errorf("%q: %w", entry, err)
		}
	}
	return nil
}

func parseText(s string) (string, error) { return s, nil }

// parseInt returns a parser of whole numbers from low to high.
func parseInt(low, high int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("want a whole number from %d to %d", low, high)
		}
		return n, nil
	}
}

// parseDuration returns a parser of times of low or more.
func parseDuration(low time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil || d < low {
			return 0, fmt.Errorf("want a time of %v or more, such as 500ms, 10s or 1m30s", low)
		}
		return d, nil
	}
}

// parseVersion asks the contract what a version may look like.
func parseVersion(s string) (string, error) {
	_, err := contract.Parse(map[string]string{contract.KeyVersion: s})
	if bad, ok := errors.AsType[*contract.KeyError](err); ok {
		return "", errors.New("want " + bad.Want)
	}
	return s, err
}

func parseAddress(s string) (string, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
		return "", errors.New("want the literal IP address of one machine (load balancers resolve no names)")
	}
	return ip.String(), nil
}

// parseSignal takes TERM, SIGTERM and 15.
func parseSignal(s string) (syscall.Signal, error) {
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if number := unix.SignalNum(name); number != 0 {
		return number, nil
	}
	const last = 64 // SIGRTMAX on Linux
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= last {
		return syscall.Signal(n), nil
	}
	return 0, errors.New("want a signal's name or number, such as TERM, SIGQUIT or 15")
}

// pair is an entry of the service's meta.
type pair struct{ key, value string }

func parsePair(s string) (pair, error) {
	key, val, found := strings.Cut(s, "=")
	switch {
	case !found || key == "":
		return pair{}, errors.New("want key=value")
	case slices.Contains(contract.InstanceKeys(), key):
		return pair{}, fmt.Errorf("the key %q has another meaning to the load balancers: use --version, --backup or --maxconn", key)
	}
	return pair{key, val}, nil
}

func parseLevel(s string) (hclog.Level, error) {
	level := hclog.LevelFromString(s)
	if level == hclog.NoLevel {
		return level, errors.New("want trace, debug, info, warn, error or off")
	}
	return level, nil
}

// parseFormat reports whether the log is to be JSON.
func parseFormat(s string) (bool, error) {
	switch s {
	case "json":
		return true, nil
	case "text":
		return false, nil
	}
	return false, errors.New("want text or json")
}
