package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// value is the place of one setting in a Config, with its type and its bounds.
type value interface {
	// set checks text and stores what it means. After an error nothing has
	// changed. The error completes "the value …" and does not repeat the value.
	set(text string) error
	// plain gives what is stored in the types that JSON has; secrets masked.
	plain() any
	// target gives the pointer to what is stored.
	target() any
	// describe names type and bounds for the reference.
	describe() string
}

// lister is a value that holds several.
type lister interface {
	value
	// setText takes one item, or a block of lines.
	setText(s string) error
	setList(items []string) error
}

// text is a setting of one string.
type text struct {
	p     *string
	what  string // for the reference
	check func(string) error
}

func (t text) set(s string) error {
	if err := t.check(s); err != nil {
		return err
	}
	*t.p = s
	return nil
}
func (t text) plain() any       { return *t.p }
func (t text) target() any      { return t.p }
func (t text) describe() string { return t.what }

// yesNo is a setting that is on or off.
type yesNo struct{ p *bool }

func (b yesNo) set(s string) error {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("must be true or false")
	}
	*b.p = v
	return nil
}
func (b yesNo) plain() any       { return *b.p }
func (b yesNo) target() any      { return b.p }
func (b yesNo) describe() string { return "true or false" }

// number is a setting of a whole number.
type number struct {
	p        *int
	min, max int // max: math.MaxInt is none
}

func (n number) set(s string) error {
	v, err := strconv.Atoi(s)
	if err != nil || v < n.min || v > n.max {
		return errors.New("must be a " + n.describe())
	}
	*n.p = v
	return nil
}
func (n number) plain() any  { return *n.p }
func (n number) target() any { return n.p }
func (n number) describe() string {
	if n.max == math.MaxInt {
		return fmt.Sprintf("whole number, %d or more", n.min)
	}
	return fmt.Sprintf("whole number, %d to %d", n.min, n.max)
}

// span is a setting of a time's length.
type span struct {
	p        *time.Duration
	min, max time.Duration
}

func (d span) set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		if _, bare := strconv.ParseFloat(s, 64); bare == nil {
			return fmt.Errorf("has no unit: write %ss for seconds, %sms for milliseconds", s, s)
		}
		return errors.New("must be a duration such as 250ms, 30s or 5m")
	}
	if v < d.min || v > d.max {
		return errors.New("must be a " + d.describe())
	}
	if v%time.Millisecond != 0 {
		return errors.New("must be whole milliseconds")
	}
	*d.p = v
	return nil
}
func (d span) plain() any  { return short(*d.p) }
func (d span) target() any { return d.p }
func (d span) describe() string {
	return "duration, " + short(d.min) + " to " + short(d.max)
}

// short prints a duration as a person would: 5m and not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// size is a setting of an amount of memory, in bytes.
type size struct{ p *int64 }

// sizeUnits are the units, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

func (z size) set(s string) error {
	if s == "0" {
		*z.p = 0
		return nil
	}
	for _, u := range sizeUnits {
		digits, found := strings.CutSuffix(s, u.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*z.p = n * u.bytes
		return nil
	}
	return errors.New("must be an " + z.describe())
}

func (z size) plain() any {
	for _, u := range sizeUnits {
		if n := *z.p; n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0"
}
func (z size) target() any      { return z.p }
func (z size) describe() string { return "amount such as 512MiB or 2GiB, or 0" }

// share is a setting of a part of one.
type share struct{ p *float64 }

func (f share) set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= 1) { // the negation refuses NaN
		return errors.New("must be a " + f.describe())
	}
	*f.p = v
	return nil
}
func (f share) plain() any       { return *f.p }
func (f share) target() any      { return f.p }
func (f share) describe() string { return "number, 0 to 1" }

// choice is a setting of one word from a closed list.
type choice[S ~string] struct {
	p  *S
	of []S
}

func oneOf[S ~string](p *S, of ...S) value { return choice[S]{p: p, of: of} }

func (c choice[S]) set(s string) error {
	if !slices.Contains(c.of, S(s)) {
		return errors.New("must be " + c.list(""))
	}
	*c.p = S(s)
	return nil
}
func (c choice[S]) plain() any       { return string(*c.p) }
func (c choice[S]) target() any      { return c.p }
func (c choice[S]) describe() string { return c.list("`") }

func (c choice[S]) list(mark string) string {
	words := make([]string, len(c.of))
	for i, w := range c.of {
		words[i] = mark + string(w) + mark
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// list is a setting of several strings. A single string stands for a list of
// one, and an empty one for the empty list.
type list struct {
	p     *[]string
	what  string // for the reference
	item  func(string) error
	whole func([]string) error // or nil

	// block lists are lines of a file: a text of several lines is a list.
	block bool
}

// listOf is a list that may stand as its one item, too.
func listOf(p *[]string, what string, item func(string) error) value {
	return list{p: p, what: what + ", or a list of them", item: item}
}

// set takes one item, or a list in YAML's flow style, as flags and the
// environment have to write it.
func (l list) set(s string) error {
	switch {
	case s == "":
		return l.setList([]string{})
	case strings.HasPrefix(s, "["):
		var items []string
		if err := yaml.Unmarshal([]byte(s), &items); err != nil {
			return errors.New(`must be one item or a list such as ["a", "b"]`)
		}
		return l.setList(items)
	}
	return l.setText(s)
}

// setText takes one item, or a block of lines.
func (l list) setText(s string) error {
	if !l.block {
		return l.setList([]string{s})
	}
	var items []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			items = append(items, line)
		}
	}
	return l.setList(items)
}

func (l list) setList(items []string) error {
	for i, item := range items {
		if err := l.item(item); err != nil {
			return fmt.Errorf("item %d, %s: %w", i+1, quote(item), err)
		}
	}
	if l.whole != nil {
		if err := l.whole(items); err != nil {
			return err
		}
	}
	*l.p = slices.Clone(items)
	return nil
}

func (l list) plain() any {
	if *l.p == nil {
		return []string{}
	}
	return *l.p
}
func (l list) target() any      { return l.p }
func (l list) describe() string { return l.what }

// secret is a setting that is never shown.
type secret struct {
	p     *Secret
	check func(string) error
}

func (s secret) set(in string) error {
	if err := s.check(in); err != nil {
		return err
	}
	*s.p = Secret(in)
	return nil
}
func (s secret) plain() any       { return s.p.String() }
func (s secret) target() any      { return s.p }
func (s secret) describe() string { return "secret" }

// inSeconds is a duration that HAProxy takes in whole seconds.
type inSeconds struct{ span }

func wholeSeconds(p *time.Duration) value { return inSeconds{span{p, 0, haproxyMax}} }

func (d inSeconds) set(s string) error {
	if v, err := time.ParseDuration(s); err == nil && v%time.Second != 0 {
		return errors.New("must be whole seconds")
	}
	return d.span.set(s)
}

// atMost bounds a list that stands on one line of haproxy.cfg.
func atMost(n int) func([]string) error {
	return func(items []string) error {
		if len(items) > n {
			return fmt.Errorf("has %d items; at most %d are possible", len(items), n)
		}
		return nil
	}
}
