package daemon

import (
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// spareMin is from how much on memory is given back, in bytes. A small fleet
	// never has so much to spare.
	spareMin = 6 << 20
	// spareEvery bounds how often: it takes a collection of all garbage.
	spareEvery = 10 * time.Second
)

// How much the heap grows between two collections, as Go's GOGC. A fleet stays, and little
// is allocated while nothing changes: then a collection more costs less than the memory.
// While there is much to do, it would take the processor's time from changes.
const (
	gcPercent  = 50
	gcIdle     = 25 // while the loop has read nothing for gcIdleFrom
	gcIdleFrom = 10 * time.Second
)

// boundGarbage sets it, and reports true, unless the operator has by GOGC.
func boundGarbage(environ []string) bool {
	isSet := func(entry string) bool { return strings.HasPrefix(entry, "GOGC=") && entry != "GOGC=" }
	if slices.ContainsFunc(environ, isSet) {
		return false
	}
	debug.SetGCPercent(gcPercent)
	return true
}

// spareMemory gives memory back to the system that was needed for a moment. Go
// keeps what a start or a comparison of a large fleet has taken: by GOGC, as much
// again as is in use.
type spareMemory struct {
	spare    func() uint64 // how much there is, in bytes
	free     func()        // gives it back
	setLimit func(percent int) int

	mu     sync.Mutex
	last   time.Time // given back
	used   time.Time // the loop has read HAProxy
	isIdle bool      // gcIdle is set
}

func newSpareMemory() *spareMemory {
	return &spareMemory{spare: spareBytes, free: debug.FreeOSMemory, setLimit: debug.SetGCPercent}
}

// keepLimit leaves the limit of garbage alone: the operator has set it.
func (m *spareMemory) keepLimit() { m.setLimit = func(int) int { return 0 } }

// use notes that the loop reads HAProxy: something has changed.
func (m *spareMemory) use(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used = now; m.isIdle {
		m.isIdle = false
		m.setLimit(gcPercent)
	}
}

// giveBack looks whether there is enough to give back, and whether the loop is idle.
func (m *spareMemory) giveBack(now time.Time) {
	m.mu.Lock()
	if !m.isIdle && now.Sub(m.used) >= gcIdleFrom {
		m.isIdle = true
		m.setLimit(gcIdle)
	}
	isDue := now.Sub(m.last) >= spareEvery && m.spare() >= spareMin
	if isDue {
		m.last = now
	}
	m.mu.Unlock()
	if isDue {
		m.free()
	}
}

// spareBytes is what the heap has that is not in use: what is free, and what has
// been allocated since the last collection.
func spareBytes() uint64 {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(s)
	free, objects, live := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
	return free + objects - min(objects, live)
}
