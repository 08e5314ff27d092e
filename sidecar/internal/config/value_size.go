package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

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
