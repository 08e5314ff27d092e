package sim

import (
	"container/heap"
	"time"
)

// queue holds what will happen, in order; what is due at one moment, in the
// order in which it was added.
type queue struct {
	items happenings
	added int
}

type happening struct {
	at time.Duration
	n  int
	do func()
}

func (q *queue) add(at time.Duration, do func()) {
	q.added++
	heap.Push(&q.items, happening{at, q.added, do})
}

// take returns the first that is due.
func (q *queue) take(now time.Duration) (do func(), due bool) {
	if len(q.items) == 0 || q.items[0].at > now {
		return nil, false
	}
	return heap.Pop(&q.items).(happening).do, true
}

// next is when something is due, or the end.
func (q *queue) next(end time.Duration) time.Duration {
	if len(q.items) == 0 {
		return end
	}
	return min(end, q.items[0].at)
}

type happenings []happening

func (h happenings) Len() int { return len(h) }

func (h happenings) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h happenings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *happenings) Push(x any)   { *h = append(*h, x.(happening)) }

func (h *happenings) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
