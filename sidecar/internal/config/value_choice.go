package config

import (
	"errors"
	"slices"
	"strings"
)

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
