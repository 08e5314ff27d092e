package config

import (
	"fmt"
	"time"
)

// Pause is how requests of a service wait while an operator has it paused.
type Pause struct {
	Max         time.Duration // that a request waits; 0: the service cannot be paused
	MaxRequests int           // in the backend, those that wait and those that servers work on
}

// pauseStep is how soon a request that waits notices that the pause has ended.
const pauseStep = 500 * time.Millisecond

// maxPause bounds Pause.Max: each second takes six rules.
const maxPause = 2 * time.Minute

func servicePause() []setting[Service] {
	return []setting[Service]{
		{
			key: "pause.max", def: "0s",
			doc: "Longest time that a request waits in HAProxy while the service is paused by [`pointsman pause`](guides/pause.md). A request that has waited for this time gets 503. 0s: the service cannot be paused. Needs HAProxy 3.2 or newer. Mode http only.",
			at:  func(s *Service) value { return span{&s.Pause.Max, 0, maxPause} },
		},
		{
			key: "pause.max_requests", def: "1000",
			doc: "Requests of the backend in one HAProxy worker, those that wait and those that servers work on, above which further ones get 503 while the service is paused. Needs `pause.max`.",
			at:  func(s *Service) value { return number{&s.Pause.MaxRequests, 1, 1_000_000} },
		},
	}
}

// CanPause reports whether the service's requests can be made to wait.
func (s Service) CanPause() bool { return s.Pause.Max > 0 }

// PauseLines returns the rules by which requests wait while the map in this file has a
// deadline for their backend, in milliseconds since 1970. They are the last of the
// backend's http-request rules: a service that is not paused ends with the first of them.
// A request looks again every pauseStep, so it goes on soon after the entry has gone, and
// at the deadline also where no sidecar is there to remove it.
func (s Service) PauseLines(mapFile string) []string {
	if !s.CanPause() {
		return nil
	}
	const now, isPaused = "http-request set-var(txn.pm_now) date(0,ms)", "{ var(txn.pm_pause) -m int gt 0 }"
	left := fmt.Sprintf("http-request set-var(txn.pm_pause) be_name,map_str_int(%s,0),sub(txn.pm_now)", mapFile)
	const refuse = `http-request return status 503 content-type text/plain hdr Retry-After "%[var(txn.pm_pause),add(999),div(1000)]" string "Service paused, try again later.\n" if ` + isPaused
	lines := []string{
		"# Pause: requests wait while the map has a deadline for the backend (docs/guides/pause.md).",
		fmt.Sprintf("http-request allow unless { be_name,map_str_int(%s) -m found }", mapFile),
		now, left,
		fmt.Sprintf("%s { be_conn gt %d }", refuse, s.Pause.MaxRequests),
	}
	// One step more: a request that came at the beginning of a pause of Max is there at its
	// end.
	for range (s.Pause.Max+pauseStep-1)/pauseStep + 1 {
		lines = append(lines, fmt.Sprintf("http-request pause %s if %s", ms(pauseStep), isPaused), now, left)
	}
	return append(lines, refuse)
}

// pauseRelations reports pauses that cannot be.
func (l *loader) pauseRelations(prefix string, s *Service) {
	key := prefix + ".pause.max"
	isSet := func(key string) bool { _, set := l.origins[key]; return set }
	if most := prefix + ".pause.max_requests"; isSet(most) && !isSet(key) {
		l.conflict("needs pause.max", "", most, prefix)
	}
	if s.CanPause() {
		l.mapsBeside("pause.max", key)
	}
	if s.CanPause() && s.Mode == TCP {
		l.conflict("needs mode http", short(s.Pause.Max), key, prefix+".mode", prefix)
	}
}
