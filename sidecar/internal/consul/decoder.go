package consul

import (
	"hash/maphash"
	"io"
	"slices"
)

// decoder reads the answers about one service, one after another. A blocking
// query gives the whole service for a change of one instance: what stands in the
// answer byte for byte as in the last one is not decoded again. It keeps a digest and
// what was read of each element of the last answer, and no JSON.
type decoder struct {
	tags   []string // see Service.Tags
	claims Claims
	zone   string          // see entry.put
	seeds  [2]maphash.Seed // random, so that a collision cannot be registered
	last   []known         // the last answer, in its order
	order  []int32         // the places in last, by registration.compare
}

// known is an element of an answer that was read.
type known struct {
	digest [2]uint64
	size   int // bytes
	*registration
}

func newDecoder(tags []string) *decoder {
	return &decoder{tags: tags, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// decode returns what the entries of an answer come to, sorted by compare. They are
// shared with the answers before.
func (d *decoder) decode(r io.Reader, most int64) ([]*registration, error) {
	now := make([]known, 0, len(d.last))
	before := lastAnswer{all: d.last}
	err := eachElement(r, most, func(s *scanner) error {
		// The one that is due, if nothing has changed, need not be scanned: it is
		// one whole element wherever it stands.
		if due := before.due(); due != nil {
			if raw := s.peek(due.size); raw != nil && digest(d.seeds, raw) == due.digest {
				s.at += due.size
				before.at++
				now = append(now, *due)
				return nil
			}
		}
		raw, err := s.element()
		if err != nil {
			return err
		}
		is := digest(d.seeds, raw)
		if k := before.find(is); k != nil {
			now = append(now, *k)
			return nil
		}
		e, err := decodeOne[entry](raw)
		if err != nil {
			return err
		}
		e.put(d.zone)
		one := newRegistration(&e, d.tags)
		one.claims = d.claims.of(&e)
		if len(now) > 0 {
			one.share(now[len(now)-1].registration)
		}
		now = append(now, known{is, len(raw), one})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(now, d.last, func(x, y known) bool { return x.registration == y.registration || x.isTwin(y.registration) }) {
		d.order = sortedOrder(now)
	}
	d.last = now
	if cap(now) > len(now)+len(now)/8 {
		d.last = slices.Clone(now) // it stays
	}
	sorted := make([]*registration, len(now))
	for i, at := range d.order {
		sorted[i] = now[at].registration
	}
	return sorted, nil
}

func digest(seeds [2]maphash.Seed, raw []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(seeds[0], raw), maphash.Bytes(seeds[1], raw)}
}

func sortedOrder(all []known) []int32 {
	order := make([]int32, len(all))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(x, y int32) int { return all[x].compare(all[y].registration) })
	return order
}

// lastAnswer is walked through along with the one after it.
type lastAnswer struct {
	all   []known
	at    int // what comes next if nothing has changed
	sites map[[2]uint64]int
	finds int
}

func (l *lastAnswer) due() *known {
	if l.at < len(l.all) {
		return &l.all[l.at]
	}
	return nil
}

// find looks for an element that is not the one which is due. An answer with few
// changes is not worth a map of all elements.
func (l *lastAnswer) find(digest [2]uint64) *known {
	const few = 16
	var at int
	var found bool
	if l.finds++; l.finds <= few {
		at = slices.IndexFunc(l.all, func(k known) bool { return k.digest == digest })
		found = at >= 0
	} else {
		if l.sites == nil {
			l.sites = make(map[[2]uint64]int, len(l.all))
			for i := range l.all {
				l.sites[l.all[i].digest] = i
			}
		}
		at, found = l.sites[digest]
	}
	if !found {
		l.at++ // likely it has taken the place of the one that was due
		return nil
	}
	l.at = at + 1
	return &l.all[at]
}
