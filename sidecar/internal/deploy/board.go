package deploy

import (
	"cmp"
	"slices"
	"sync"
)

// board is where every load balancer stands. It may be used by several
// goroutines.
type board struct {
	show func([]Bar)

	mu   sync.Mutex
	rows map[string]*row // by name
}

type row struct {
	balancer Balancer
	bar      Bar
	routes   bool // false: it has said that it does not route the service
}

func newBoard(show func([]Bar)) *board { return &board{show: show, rows: map[string]*row{}} }

// put adds a load balancer, or notes where it is to be found now; it reports
// whether it is new.
func (b *board) put(balancer Balancer) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, known := b.rows[balancer.Name]; known {
		r.balancer = balancer
		return false
	}
	b.rows[balancer.Name] = &row{balancer: balancer, bar: Bar{Name: balancer.Name}, routes: true}
	return true
}

// balancer returns a load balancer as it was last put.
func (b *board) balancer(name string) Balancer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rows[name].balancer
}

// names returns those that route the service, sorted.
func (b *board) names() []string {
	names := []string{}
	for _, bar := range b.bars() {
		names = append(names, bar.Name)
	}
	return names
}

// set changes a bar and shows it if it has changed. Showing is part of the
// change, so that the last that is shown is the last that was set.
func (b *board) set(name string, change func(*Bar)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rows[name]
	was := r.bar
	change(&r.bar)
	if r.bar != was {
		b.show(b.list())
	}
}

// unrouted notes that a load balancer does not route the service: it is not
// asked any more.
func (b *board) unrouted(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows[name].routes = false
	b.show(b.list())
}

// bars returns the bars of those that route the service, sorted by name.
func (b *board) bars() []Bar {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.list()
}

func (b *board) list() []Bar {
	bars := make([]Bar, 0, len(b.rows))
	for _, r := range b.rows {
		if r.routes {
			bars = append(bars, r.bar)
		}
	}
	slices.SortFunc(bars, func(x, y Bar) int { return cmp.Compare(x.Name, y.Name) })
	return bars
}
