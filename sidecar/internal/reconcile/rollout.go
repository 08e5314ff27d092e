package reconcile

import (
	"fmt"
	"math"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// rolloutState compares the shares that are wanted with what HAProxy has.
func rolloutState(r *catalog.Rollout, instances []InstanceState) *RolloutState {
	if r == nil {
		return nil
	}
	s := &RolloutState{State: r.State, Shares: make([]ShareState, 0, len(r.Shares)), ModifiedBy: r.ModifiedBy, ModifiedAt: r.ModifiedAt, Ignored: r.Ignored, Refused: r.Refused}
	for _, share := range r.Shares {
		s.Shares = append(s.Shares, ShareState{Version: share.Version, Percent: share.Percent, Weight: share.Weight})
	}
	all, weights := 0, make([]int, len(s.Shares))
	for i := range instances {
		inst := &instances[i]
		if !inst.GetsRequests() {
			continue
		}
		all += inst.Weight
		for n := range s.Shares {
			if s.Shares[n].Version == inst.Version && inst.ID != "" {
				s.Shares[n].Servers++
				weights[n] += inst.Weight
			}
		}
	}
	for n := range s.Shares {
		if all > 0 {
			s.Shares[n].Actual = math.Round(1000*float64(weights[n])/float64(all)) / 10
		}
	}
	return s
}

// words are the shares for people.
func (r *RolloutState) words() string {
	parts := make([]string, 0, len(r.Shares))
	for _, s := range r.Shares {
		parts = append(parts, fmt.Sprintf("%s %d%% (has %g%%)", catalog.Printable(s.Version), s.Percent, s.Actual))
	}
	return strings.Join(parts, ", ")
}

// rollout tells of what an operator has ordered and does not get.
func (v *Verdict) rollout(s *ServiceState) {
	r := s.Rollout
	if r == nil {
		return
	}
	if r.Refused != "" {
		v.addTo(Degraded, s.Name, s.Backend, "invalid rollout ignored: "+r.Refused)
	}
	if r.Ignored != "" {
		v.addTo(Degraded, s.Name, s.Backend, "shares of the rollout not applied: "+r.Ignored)
	}
	if r.State != "" && len(r.Shares) > 0 {
		v.addTo(InStep, s.Name, s.Backend, "rollout "+r.State+": "+r.words())
	}
}
