package haproxy

import (
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// markerFrom reads the reply to `show env POINTSMAN_MARK`. A worker without
// the variable answers "Variable not found".
func markerFrom(reply string) plan.Marker {
	value, found := strings.CutPrefix(strings.TrimSpace(reply), plan.MarkerVariable+"=")
	if !found {
		return plan.Marker{}
	}
	m, _ := plan.ParseMarker(value)
	return m
}
