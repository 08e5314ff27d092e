package cli

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
	spareMin = 16 << 20
	// spareEvery bounds how often: it takes a collection of all garbage.
	spareEvery = 30 * time.Second
)

// gcPercent is how much the heap grows between two collections, as Go's GOGC. A fleet
// stays and little is allocated, so that more collections cost next to
// nothing: 1,000 services of 10 instances idle in 100 MiB instead of 128.
const gcPercent = 50

// boundGarbage sets it, unless the operator has by GOGC.
func boundGarbage(environ []string) {
	isSet := func(entry string) bool { return strings.HasPrefix(entry, "GOGC=") && entry != "GOGC=" }
	if !slices.ContainsFunc(environ, isSet) {
		debug.SetGCPercent(gcPercent)
	}
}

// spareMemory gives memory back to the system that was needed for a moment. Go
// keeps what a start or a comparison of a large fleet has taken: by GOGC, as much
// again as is in use.
type spareMemory struct {
	spare func() uint64 // how much there is, in bytes
	free  func()        // gives it back

	mu   sync.Mutex
	last time.Time
}

func newSpareMemory() *spareMemory { return &spareMemory{spare: spareBytes, free: debug.FreeOSMemory} }

// giveBack looks whether there is enough to give back.
func (m *spareMemory) giveBack(now time.Time) {
	m.mu.Lock()
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
