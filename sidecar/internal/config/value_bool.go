package config

import (
	"errors"
	"strconv"
)

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
