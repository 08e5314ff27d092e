package route

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

// UpdateOf returns the way from what HAProxy has to what is wanted. Where both share their
// strings, as one Table and what With made of it, a long one takes microseconds.
func UpdateOf(have []Entry, want Table) Update {
	is, doubled := tableOf(have, want)
	u := Update{Replace: doubled != ""}
	all := want
	for len(is) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(is) > 0 && is[0].Key < want[0].Key:
			u.Changes = append(u.Changes, Change{Del, is[0].Key, is[0].Value})
			is = is[1:]
		case len(is) == 0 || is[0].Key != want[0].Key:
			u.Changes = append(u.Changes, Change{Add, want[0].Key, want[0].Value})
			want = want[1:]
		default:
			if is[0].Value != want[0].Value {
				u.Changes = append(u.Changes, Change{Set, want[0].Key, want[0].Value})
			}
			is, want = is[1:], want[1:]
		}
	}
	if u.Replace && len(u.Changes) == 0 {
		value, _ := all.value(doubled)
		u.Changes = append(u.Changes, Change{Set, doubled, value})
	}
	u.Replace = u.Replace || len(u.Changes) > 1
	return u
}
