package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// PauseMap is the name of the map of the services that are paused, in the place of a
// frontend's.
const PauseMap = "pointsman.pauses"

// pauseLine is a line of haproxy.cfg with a pause, as a comment: a sidecar that starts while
// Consul does not answer goes on with it.
const pauseLine = "#pause "

// Pauses is which services are paused.
type Pauses struct {
	Backends map[string]string        // those that can be paused, with their services; nil: no backend or profile names the map
	Of       map[string]catalog.Pause // by service, those that are
}

// Map is what HAProxy looks a backend's pause up in: deadlines in milliseconds.
func (p Pauses) Map() map[string]string {
	out := map[string]string{}
	for backend, service := range p.Backends {
		if until := p.Of[service].Until; !until.IsZero() {
			out[backend] = strconv.FormatInt(until.UnixMilli(), 10)
		}
	}
	return out
}

// WithPauses returns a Renderer of the same settings with other pauses of the services that
// can be paused. It has the same marker and needs no check.
func (r *Renderer) WithPauses(of map[string]catalog.Pause) *Renderer {
	out := r.copied()
	out.settings.Pauses.Of = of
	return out
}

// Pausable returns the backends that can be paused, with their services.
func (r *Renderer) Pausable() map[string]string { return r.settings.Pauses.Backends }

// writePauses adds the pauses. Where no service can be paused, a kept one may still name
// the map.
func (r *Renderer) writePauses(out *bytes.Buffer) {
	p := r.settings.Pauses
	isNamed := func(k kept) bool { return strings.Contains(k.text, MapFile("", PauseMap)) }
	if p.Backends == nil && !slices.ContainsFunc(r.kept, isNamed) {
		return
	}
	fmt.Fprintf(out, "\n# Backends that are paused. HAProxy reads them from the map file beside this file.\n%s%s\n", mapLine, PauseMap)
	entries := p.Map()
	for _, backend := range slices.Sorted(maps.Keys(entries)) {
		fmt.Fprintf(out, "%s%s %s\n", routeLine, backend, entries[backend])
	}
	// Others are somewhere else, and there may be many: Consul holds what anyone wrote there.
	for _, service := range slices.Compact(slices.Sorted(maps.Values(p.Backends))) {
		if pause := p.Of[service]; !pause.Until.IsZero() {
			text, _ := json.Marshal(savedPause{service, pause}) // texts and times
			fmt.Fprintf(out, "%s%s\n", pauseLine, text)
		}
	}
}

type savedPause struct {
	Service string `json:"service"`
	catalog.Pause
}

// PausesIn is the pauses that a file has and that are not over, by service. A line that
// cannot be read says nothing.
func PausesIn(content []byte, now time.Time) map[string]catalog.Pause {
	out := map[string]catalog.Pause{}
	for line := range bytes.Lines(content) {
		var saved savedPause
		if text, is := bytes.CutPrefix(line, []byte(pauseLine)); is && json.Unmarshal(text, &saved) == nil && saved.Until.After(now) {
			out[saved.Service] = saved.Pause
		}
	}
	return out
}
