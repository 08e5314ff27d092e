package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

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
