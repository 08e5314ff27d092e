package config

import "testing"

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
		back string // "" is refused
	}{
		{"0", 0, "0"},
		{"0MiB", 0, "0"},
		{"512KiB", 512 << 10, "512KiB"},
		{"1024MiB", 1 << 30, "1GiB"},
		{"3GiB", 3 << 30, "3GiB"},
		{"2TiB", 2 << 40, "2TiB"},
		{"9000000TiB", 0, ""},
		{"-1MiB", 0, ""},
		{"1MB", 0, ""},
		{"1.5GiB", 0, ""},
		{"512", 0, ""},
		{"MiB", 0, ""},
		{"", 0, ""},
	} {
		var n int64
		v := size{&n}
		err := v.set(c.text)
		if (err == nil) != (c.back != "") || n != c.want {
			t.Errorf("%q: got %d, %v, want %d", c.text, n, err, c.want)
		}
		if got := v.plain(); err == nil && got != c.back {
			t.Errorf("%q: is printed as %v, want %s", c.text, got, c.back)
		}
	}
}
