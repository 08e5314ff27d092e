package consul

import "time"

// SetOtherWait sets how long other datacenters are waited for, before Run.
func (s *Source) SetOtherWait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.otherWait = d
}
