package consul

import (
	"errors"
	"testing"
	"time"
)

func TestCursorNext(t *testing.T) {
	good := func(index uint64) meta { return meta{index: index, knownLeader: true} }
	aged := func(index uint64, by time.Duration) meta {
		return meta{index: index, knownLeader: true, lastContact: by}
	}
	other := errors.New("any error")
	tests := map[string]struct {
		from     cursor
		got      meta
		maxStale time.Duration
		next     cursor
		usable   bool
		err      error
	}{
		"the first answer is used":                      {from: cursor{}, got: good(7), next: cursor{index: 7}, usable: true},
		"a higher index is used and waited beyond":      {from: cursor{index: 7}, got: good(9), next: cursor{index: 9}, usable: true},
		"a wait that ran out asks the leader":           {from: cursor{index: 7}, got: good(7), next: cursor{}, usable: true},
		"an index that fell is not used":                {from: cursor{index: 7}, got: good(6), next: cursor{}},
		"index 1 after a start is used":                 {from: cursor{}, got: good(1), next: cursor{index: 1}, usable: true},
		"index 0 is an error":                           {from: cursor{}, got: good(0), err: errIndex},
		"index 0 is an error, though it fell too":       {from: cursor{index: 7}, got: good(0), err: errIndex},
		"no leader is an error":                         {from: cursor{}, got: meta{index: 7}, err: errNoLeader},
		"a streamed answer never knows a leader":        {from: cursor{index: 7}, got: meta{index: 9, streamed: true}, next: cursor{index: 9}, usable: true},
		"a streamed answer filtered by ACLs":            {from: cursor{}, got: meta{index: 9, streamed: true, filtered: true}, err: errFiltered},
		"filtered by ACLs is an error":                  {from: cursor{}, got: meta{index: 7, knownLeader: true, filtered: true}, err: errFiltered},
		"too old is asked for again consistently":       {from: cursor{index: 7}, got: aged(9, 2), maxStale: 1, next: cursor{consistent: true}},
		"old enough is used":                            {from: cursor{index: 7}, got: aged(9, 1), maxStale: 1, next: cursor{index: 9}, usable: true},
		"any age is too old where none is allowed":      {from: cursor{}, got: aged(9, 1), next: cursor{consistent: true}},
		"a consistent answer is followed by a usual":    {from: cursor{consistent: true}, got: good(9), next: cursor{index: 9}, usable: true},
		"a consistent answer that is old is an error":   {from: cursor{consistent: true}, got: aged(9, 1), err: other},
		"too old and fallen is asked for consistently":  {from: cursor{index: 7}, got: aged(3, 2), maxStale: 1, next: cursor{consistent: true}},
		"the largest index does not overflow to a wait": {from: cursor{index: 1<<64 - 1}, got: good(1), next: cursor{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			next, usable, err := tc.from.next(tc.got, tc.maxStale)
			if next != tc.next || usable != tc.usable || (err != nil) != (tc.err != nil) {
				t.Fatalf("%+v after %+v = %+v, %v, %v, want %+v, %v, %v", tc.from, tc.got, next, usable, err, tc.next, tc.usable, tc.err)
			}
			if tc.err != nil && !errors.Is(tc.err, other) && !errors.Is(err, tc.err) {
				t.Errorf("error = %v, want %v", err, tc.err)
			}
		})
	}
}
