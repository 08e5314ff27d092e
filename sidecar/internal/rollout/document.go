package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
)

// Schema is the version of the document; docs/rollout.schema.json describes it.
const Schema = 1

// Prefix is where the documents are, one key for each service, whose name is escaped.
const Prefix consul.Folder = "pointsman/rollouts/"

// The bounds of a document.
const (
	maxBytes    = 64 << 10
	MaxVersions = 16 // that have a share
	maxVersion  = 64 // characters, as of an instance's version
	maxSteps    = 32
	maxHistory  = 20
	maxError    = 500 // bytes, of what is wrong with it
	minInterval = time.Second
	maxInterval = 7 * 24 * time.Hour
)

// State is where a rollout stands.
type State string

// The states.
const (
	Running  State = "running"  // it walks its steps
	Paused   State = "paused"   // its shares stay until an operator says more
	Promoted State = "promoted" // the canary has all traffic
	Aborted  State = "aborted"  // the stable version has all traffic again
)

// States lists every State.
var States = []State{Running, Paused, Promoted, Aborted}

// AnalysisOff is the Analysis of a rollout whose steps pass when their interval is over
// and the canary takes traffic.
const AnalysisOff = "off"

// Document is how one service's traffic is shared.
type Document struct {
	Schema  int    `json:"schema"`
	Service string `json:"service"`
	State   State  `json:"state"`
	// Shares is the part of each version in percent. Together they are 100; without
	// any, all instances have their own weights.
	Shares map[string]int `json:"shares"`
	Stable string         `json:"stable,omitempty"` // the version that an abort goes back to
	Canary string         `json:"canary,omitempty"` // the version that the steps are of

	Steps    []int     `json:"steps,omitempty"`    // shares of the canary, ascending, the last 100
	Interval Duration  `json:"interval,omitempty"` // how long a step lasts, at least
	Analysis string    `json:"analysis,omitempty"` // AnalysisOff, or "": the canary is compared with the stable version
	Step     int       `json:"step,omitempty"`     // the current one, from 0
	StepAt   time.Time `json:"step_at,omitzero"`   // when it began

	Reason     string    `json:"reason,omitempty"` // why the state is what it is, where a sidecar has changed it
	ModifiedBy string    `json:"modified_by"`      // user@host, or the load balancer
	ModifiedAt time.Time `json:"modified_at"`

	History []Change `json:"history,omitempty"` // the newest first
}

// Change is one change of a document, with what came of it.
type Change struct {
	Action string         `json:"action"` // the command's name, Prepared, or step
	Shares map[string]int `json:"shares"`
	State  State          `json:"state"`
	Reason string         `json:"reason,omitempty"`
	By     string         `json:"by"`
	At     time.Time      `json:"at"`
}

// Duration is a time.Duration that JSON has as Go writes it, such as "1m0s".
type Duration time.Duration

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// IsZero is for omitempty.
func (d Duration) IsZero() bool { return d == 0 }

// Key is the key of a service's document.
func Key(service string) string { return Prefix.Key(service) }

// Parse reads the document of a service. The error names the key and all that is wrong.
func Parse(service string, value []byte) (*Document, error) {
	d, err := consul.DecodeDocument[Document](value, maxBytes)
	if err == nil {
		err = d.check(service)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %s", catalog.Printable(Key(service)), short(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	return d, nil
}

// short cuts an error: logs, states and pages have it for each backend.
func short(text string) string {
	if len(text) <= maxError {
		return text
	}
	return strings.ToValidUTF8(text[:maxError], "") + " …"
}

// Encode returns the bytes of a document, or what is wrong with it. The oldest changes go
// where there are too many.
func (d *Document) Encode() ([]byte, error) {
	d.History = d.History[:min(len(d.History), maxHistory)]
	for {
		if err := d.check(d.Service); err != nil {
			return nil, err
		}
		out, err := json.Marshal(d)
		if err != nil || len(out) <= maxBytes || len(d.History) == 0 {
			return out, err
		}
		d.History = d.History[:len(d.History)-1]
	}
}

// check names all that is wrong with a document.
func (d *Document) check(service string) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.Schema != Schema {
		bad("schema: %d, this program reads %d", d.Schema, Schema)
		return errors.Join(errs...)
	}
	if d.Service != service {
		bad("service: %.100q, want %.100q", d.Service, service)
	}
	if d.Analysis != "" && d.Analysis != AnalysisOff {
		bad("analysis: %.40q, want %q or none", d.Analysis, AnalysisOff)
	}
	if !slices.Contains(States, d.State) {
		bad("state: %.40q, want one of %v", d.State, States)
	}
	mayBeEmpty := d.State == Promoted || d.State == Aborted
	errs = append(errs, checkShares("shares", d.Shares, mayBeEmpty))
	for _, v := range []struct{ key, version string }{{"stable", d.Stable}, {"canary", d.Canary}} {
		if _, has := d.Shares[v.version]; v.version != "" && len(d.Shares) > 0 && !has {
			bad("%s: %.100q, want a version of shares", v.key, v.version)
		}
	}
	errs = append(errs, d.checkSteps())
	for _, t := range []struct{ key, text string }{{"reason", d.Reason}, {"modified_by", d.ModifiedBy}} {
		errs = append(errs, checkText(t.key, t.text))
	}
	if len(d.History) > maxHistory {
		bad("history: %d changes, want at most %d", len(d.History), maxHistory)
		return errors.Join(errs...)
	}
	for i, c := range d.History {
		at := fmt.Sprintf("history[%d].", i)
		errs = append(errs, checkShares(at+"shares", c.Shares, true), checkText(at+"action", c.Action), checkText(at+"by", c.By), checkText(at+"reason", c.Reason))
		if !slices.Contains(States, c.State) {
			bad("%sstate: %.40q, want one of %v", at, c.State, States)
		}
	}
	return errors.Join(errs...)
}

// CheckShares refuses shares that are not 100 together, or out of bounds.
func CheckShares(shares map[string]int) error { return checkShares("shares", shares, false) }

func checkShares(key string, shares map[string]int, mayBeEmpty bool) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s%w", key, fmt.Errorf(format, args...)))
	}
	switch {
	case len(shares) == 0 && mayBeEmpty:
		return nil
	case len(shares) == 0:
		bad(": none, want the part of each version")
		return errs[0]
	case len(shares) > MaxVersions:
		bad(": %d versions, want at most %d", len(shares), MaxVersions)
		return errs[0]
	}
	sum := 0
	for _, version := range slices.Sorted(maps.Keys(shares)) {
		percent := shares[version]
		if err := CheckVersion(version); err != nil {
			bad("[%.100q]: %w", version, err)
		}
		if percent < 0 || percent > 100 {
			bad("[%.100q]: %d, want 0 to 100", version, percent)
		} else {
			sum += percent
		}
	}
	if len(errs) == 0 && sum != 100 {
		bad(": their sum is %d, want 100", sum)
	}
	return errors.Join(errs...)
}

// CheckVersion refuses a text that no instance can have as its version.
func CheckVersion(version string) error {
	switch {
	case version == "":
		return errors.New("no version, want the one that instances register as meta version")
	case utf8.RuneCountInString(version) > maxVersion:
		return fmt.Errorf("%d characters, want at most %d", utf8.RuneCountInString(version), maxVersion)
	case catalog.Printable(version) != version:
		return errors.New("want printable characters")
	}
	return nil
}

func (d *Document) checkSteps() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.State == Running && d.StepAt.IsZero() {
		bad("step_at: none, want when the step began while the state is %s", Running)
	}
	if len(d.Steps) == 0 {
		if d.State == Running {
			bad("steps: none, want the canary's shares while the state is %s", Running)
		}
		if d.Step != 0 {
			bad("step: %d, want 0 without steps", d.Step)
		}
		return errors.Join(errs...)
	}
	if err := CheckSteps(d.Steps); err != nil {
		bad("steps: %w", err)
	}
	if d.Stable == "" || d.Canary == "" || d.Stable == d.Canary {
		bad("steps: want a stable and a canary version that differ")
	}
	if d.Step < 0 || d.Step >= len(d.Steps) {
		bad("step: %d, want 0 to %d", d.Step, len(d.Steps)-1)
	}
	if err := CheckInterval(time.Duration(d.Interval)); err != nil {
		bad("interval: %w", err)
	}
	return errors.Join(errs...)
}

// CheckSteps refuses steps that do not rise to 100.
func CheckSteps(steps []int) error {
	switch {
	case len(steps) > maxSteps:
		return fmt.Errorf("%d, want at most %d", len(steps), maxSteps)
	case len(steps) == 0 || steps[len(steps)-1] != 100:
		return errors.New("want 100 as the last")
	}
	for i, s := range steps {
		if s < 1 || i > 0 && s <= steps[i-1] {
			return fmt.Errorf("[%d]: %d, want 1 to 100, each above the one before", i, s)
		}
	}
	return nil
}

// CheckInterval refuses an interval out of bounds.
func CheckInterval(d time.Duration) error {
	if d < minInterval || d > maxInterval {
		return fmt.Errorf("%s, want %s to %s", d, minInterval, maxInterval)
	}
	return nil
}

// Text makes a text fit for a Reason.
func Text(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), consul.MaxText)], "")
}

func checkText(key, text string) error {
	if err := consul.CheckText(text); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// Versions are those of the shares, sorted.
func (d *Document) Versions() []string { return slices.Sorted(maps.Keys(d.Shares)) }

// SharesText is the shares for people.
func (d *Document) SharesText() string { return SharesText(d.Shares) }

// SharesText is shares for people.
func SharesText(shares map[string]int) string {
	if len(shares) == 0 {
		return "no shares"
	}
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(shares)) {
		parts = append(parts, fmt.Sprintf("%s %d%%", catalog.Printable(version), shares[version]))
	}
	return strings.Join(parts, ", ")
}
