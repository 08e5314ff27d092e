package route

import (
	"cmp"
	"maps"
	"slices"
)

// Entry is one line of a map, as HAProxy shows it. A map may have a key twice.
type Entry struct{ Key, Value string }

// ChangeKind is what happens to one key.
type ChangeKind string

// The kinds of changes.
const (
	Add ChangeKind = "added"
	Set ChangeKind = "changed"
	Del ChangeKind = "removed"
)

// Change is one key of a map that becomes another.
type Change struct {
	Kind       ChangeKind
	Key, Value string // of Del, Value is what it had
}

// Update is the way of a map to what is wanted.
type Update struct {
	Changes []Change // what differs, by key; none: nothing does
	// Replace is set where the map is replaced as a whole, at one moment: for more
	// than one change, and for a key that is there twice. Else the one change is
	// made alone.
	Replace bool
}

// UpdateOf gives the way from what HAProxy has to what is wanted.
func UpdateOf(have []Entry, want Map) Update {
	var u Update
	seen := make(Map, len(have))
	for _, e := range have {
		if _, again := seen[e.Key]; again {
			u.Replace = true
			continue
		}
		seen[e.Key] = e.Value
	}
	for key, value := range seen {
		wanted, still := want[key]
		switch {
		case !still:
			u.Changes = append(u.Changes, Change{Del, key, value})
		case wanted != value:
			u.Changes = append(u.Changes, Change{Set, key, wanted})
		}
	}
	for key, value := range want {
		if _, has := seen[key]; !has {
			u.Changes = append(u.Changes, Change{Add, key, value})
		}
	}
	if u.Replace && len(u.Changes) == 0 {
		key := doubled(have)
		u.Changes = append(u.Changes, Change{Set, key, want[key]})
	}
	slices.SortFunc(u.Changes, func(a, b Change) int { return cmp.Compare(a.Key, b.Key) })
	u.Replace = u.Replace || len(u.Changes) > 1
	return u
}

// doubled is the first key that is there twice.
func doubled(entries []Entry) string {
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.Key] {
			return e.Key
		}
		seen[e.Key] = true
	}
	return ""
}

// Entries gives the map, sorted by key.
func (m Map) Entries() []Entry {
	entries := make([]Entry, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		entries = append(entries, Entry{key, m[key]})
	}
	return entries
}
