package main

import (
	"math/rand/v2"
	"time"
)

// fault is one thing that goes wrong, with all that chance decides about it.
type fault struct {
	number  int
	kind    kind
	pause   time.Duration // from the beginning of the fault before
	length  time.Duration // within the bounds of its kind
	lb      int
	service int
	node    int // below the service's number of nodes
	coin    bool
}

// sequence gives one fault after another. It depends on the seed and the kinds
// alone, so that a sequence can be had again.
type sequence struct {
	rng   *rand.Rand
	kinds []kind
	bag   []kind // that are left of this round: each kind comes once in a round
	count int
}

func newSequence(seed uint64, kinds []kind) *sequence {
	return &sequence{rng: rand.New(rand.NewPCG(seed, 1)), kinds: kinds}
}

// meanPause is between the beginnings of two faults, if nothing keeps the
// second waiting.
const meanPause = 700 * time.Millisecond

func (s *sequence) next() fault {
	if len(s.bag) == 0 {
		for _, i := range s.rng.Perm(len(s.kinds)) {
			s.bag = append(s.bag, s.kinds[i])
		}
	}
	s.count++
	f := fault{number: s.count, kind: s.bag[0]}
	s.bag = s.bag[1:]
	// The same draws for every kind.
	f.pause = min(time.Duration(s.rng.ExpFloat64()*float64(meanPause)), 5*meanPause)
	f.length = f.kind.least + time.Duration(s.rng.Float64()*float64(f.kind.most-f.kind.least))
	f.lb = s.rng.IntN(balancers)
	f.service = s.rng.IntN(len(fleets))
	f.node = s.rng.IntN(fleets[f.service].nodes)
	f.coin = s.rng.IntN(2) == 0
	return f
}
