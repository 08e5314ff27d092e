package config

import (
	"errors"
	"strconv"
)

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
