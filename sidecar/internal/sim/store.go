package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
)

// store is what a sidecar keeps for the one after it: its reconcile.Store.
type store struct{ *sidecar }

var _ reconcile.Store = store{}

// saving is how long a write takes, always: it is made by a goroutine of its
// own, and must not draw from the loop's luck.
const saving = 3*time.Millisecond + 333*time.Nanosecond

// Path is where it is.
func (s store) Path() string { return "/var/lib/pointsman/snapshot.json" }

// Load gives what the sidecar before has saved.
func (s store) Load() ([]catalog.Saved, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.recalled = slices.Clone(s.w.disk.saved)
	return slices.Clone(s.recalled), nil
}

// Save is not heard of any more once the sidecar has died.
func (s store) Save(saved []catalog.Saved) error {
	time.Sleep(saving)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	switch {
	case s.ended:
		return errors.New("dead")
	case s.w.trouble.write > 0.5:
		return errors.New("no space left on device")
	}
	s.w.disk.saved = saved
	return nil
}
