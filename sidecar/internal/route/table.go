package route

import (
	"cmp"
	"maps"
	"slices"
)

// Table is a map as HAProxy is to have it: its lines sorted by key, each key once. It is
// immutable.
type Table []Entry

// Table returns the map's lines.
func (m Map) Table() Table {
	t := make(Table, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		t = append(t, Entry{key, m[key]})
	}
	return t
}

// With returns the table with other lines for some keys; nil is none.
func (t Table) With(lines map[string]*Entry) Table {
	return Patch(t, 0, lines, func(e Entry) string { return e.Key })
}

// Keeping returns the table with the lines that HAProxy has besides it, or otherwise, as far
// as keep says so of the line and of the one that the table has for its key, if it has one.
func (t Table) Keeping(have []Entry, keep func(has, wanted Entry) bool) Table {
	lines := map[string]*Entry{}
	for i := len(have) - 1; i >= 0; i-- { // of a key that is there twice the first counts
		if value, has := t.value(have[i].Key); (!has || value != have[i].Value) && keep(have[i], Entry{have[i].Key, value}) {
			lines[have[i].Key] = &have[i]
		}
	}
	if len(lines) == 0 {
		return t
	}
	return t.With(lines)
}

// Has reports whether all lines of another table are in this one.
func (t Table) Has(other Table) bool {
	for _, e := range other {
		if value, has := t.value(e.Key); !has || value != e.Value {
			return false
		}
	}
	return true
}

// value returns a key's value.
func (t Table) value(key string) (value string, has bool) {
	i, has := slices.BinarySearchFunc(t, key, compareKey)
	if !has {
		return "", false
	}
	return t[i].Value, true
}

func compareKey(e Entry, key string) int { return cmp.Compare(e.Key, key) }

// tableOf returns what HAProxy has of a map as a table, and the first key that is there
// twice, or "". Of one that is, the first line counts. like is a table of nearly the same keys.
func tableOf(have []Entry, like Table) (t Table, doubled string) {
	if isSorted(have, like) {
		return have, ""
	}
	t = slices.Clone(have)
	slices.SortStableFunc(t, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
	for i := 1; i < len(t) && doubled == ""; i++ {
		if t[i-1].Key == t[i].Key {
			doubled = t[i].Key
		}
	}
	return slices.CompactFunc(t, func(a, b Entry) bool { return a.Key == b.Key }), doubled
}

// isSorted reports whether each key is greater than the one before. Keys that follow each
// other in a table, too, are not compared: with that one's own strings this takes microseconds.
func isSorted(have []Entry, like Table) bool {
	isLike := false // the key before is the one of like before
	for i := range have {
		if len(like) > 0 && have[i].Key == like[0].Key {
			like = like[1:]
			if isLike {
				continue
			}
			isLike = true
		} else {
			for isLike = false; len(like) > 0 && like[0].Key <= have[i].Key; {
				like = like[1:]
			}
		}
		if i > 0 && have[i-1].Key >= have[i].Key {
			return false
		}
	}
	return true
}

// Patch returns a list that from a place on is sorted by key, each key once, with another
// element for each of some keys there; nil is none. What lies between is copied and not looked at.
func Patch[T any](list []T, from int, elements map[string]*T, key func(T) string) []T {
	out := append(make([]T, 0, len(list)+len(elements)), list[:from]...)
	list = list[from:]
	for _, changed := range slices.Sorted(maps.Keys(elements)) {
		i, has := slices.BinarySearchFunc(list, changed, func(one T, k string) int { return cmp.Compare(key(one), k) })
		out = append(out, list[:i]...)
		if one := elements[changed]; one != nil {
			out = append(out, *one)
		}
		if has {
			i++
		}
		list = list[i:]
	}
	return append(out, list...)
}
