package registrator

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

// ttlKeeper gives the signs of life of the TTL checks, for as long as the process
// runs, and while it leaves.
type ttlKeeper struct {
	r    *Registration
	lost error // as the watchdog's
}

// period is a third of the shortest TTL: two signs may be lost. It is zero if
// there is no TTL check.
func (h *ttlKeeper) period() time.Duration {
	var shortest time.Duration
	for _, c := range h.r.config.Checks {
		if c.TTL > 0 && (shortest == 0 || c.TTL < shortest) {
			shortest = c.TTL
		}
	}
	return shortest / 3
}

// beat says that the program lives, to every TTL check. What the agent has
// forgotten is the watchdog's business.
func (h *ttlKeeper) beat() {
	if h.r.isTaken() {
		return // the checks under this ID are another process's
	}
	var failed error
	for _, c := range h.r.config.Checks {
		if c.TTL == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), min(callTimeout, h.period()))
		id := checkID(h.r.config.ID, c.Name)
		err := h.r.agent.UpdateTTLOpts(id, "", api.HealthPassing, (&api.QueryOptions{}).WithContext(ctx))
		cancel()
		if err != nil && !isNotFound(err) {
			failed = fmt.Errorf("check %q: %w", id, err)
		}
	}
	if failed != nil && h.lost == nil {
		h.r.log.Warn("TTL check update failed, retrying", "error", failed)
	}
	h.lost = failed
}
