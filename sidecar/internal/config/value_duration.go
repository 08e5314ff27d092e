package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

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
