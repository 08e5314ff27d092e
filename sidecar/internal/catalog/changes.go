package catalog

import "slices"

// Changes is the order in which the answers about backends changed, so that one who looks
// again and again finds what is new without a look at all. The zero Changes has none. It is
// not safe for concurrent use.
type Changes struct {
	last uint64
	of   map[string]uint64 // by backend, its last change
	log  []change          // in order; of a backend only the last one counts
}

type change struct {
	backend string
	n       uint64
}

// Note takes that the answer about a backend has changed.
func (c *Changes) Note(backend string) {
	if c.of == nil {
		c.of = map[string]uint64{}
	}
	c.last++
	c.of[backend] = c.last
	if c.log = append(c.log, change{backend, c.last}); len(c.log) > 2*len(c.of) {
		c.log = slices.DeleteFunc(c.log, c.isOld)
	}
}

func (c *Changes) isOld(x change) bool { return c.of[x.backend] != x.n }

// Forget drops a backend.
func (c *Changes) Forget(backend string) { delete(c.of, backend) }

// Since calls a function with each backend that has changed since a call that returned
// seen, and returns what is to be given next time. 0 is all of them.
func (c *Changes) Since(seen uint64, each func(backend string)) uint64 {
	first, _ := slices.BinarySearchFunc(c.log, seen+1, func(x change, n uint64) int {
		if x.n < n {
			return -1
		}
		return 1
	})
	for _, x := range c.log[first:] {
		if !c.isOld(x) {
			each(x.backend)
		}
	}
	return c.last
}
