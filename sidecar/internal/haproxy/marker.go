package haproxy

import (
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// MarkerVariable is the environment variable by which a running worker tells
// what its configuration was made from: the file has
// `setenv POINTSMAN_MARK <FormatMarker>` in a global section.
const MarkerVariable = "POINTSMAN_MARK"

// markerFormat is the version of the marker's own form.
const markerFormat = "1"

// FormatMarker gives the value of MarkerVariable: "1.TEMPLATE.SERVICES.SETTINGS".
func FormatMarker(m plan.Marker) string {
	return strings.Join([]string{markerFormat, m.Template, m.Services, m.Settings}, ".")
}

// ParseMarker reads what FormatMarker wrote. Anything else is not ours: false.
func ParseMarker(s string) (plan.Marker, bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 || parts[0] != markerFormat {
		return plan.Marker{}, false
	}
	for _, digest := range parts[1:] {
		if !isDigest(digest) {
			return plan.Marker{}, false
		}
	}
	return plan.Marker{Template: parts[1], Services: parts[2], Settings: parts[3]}, true
}

// maxDigest is SHA-256 in hexadecimal digits, the longest that is written.
const maxDigest = 64

func isDigest(s string) bool {
	if s == "" || len(s) > maxDigest {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// markerFrom reads the reply to `show env POINTSMAN_MARK`. A worker without
// the variable answers "Variable not found".
func markerFrom(reply string) plan.Marker {
	value, found := strings.CutPrefix(strings.TrimSpace(reply), MarkerVariable+"=")
	if !found {
		return plan.Marker{}
	}
	m, _ := ParseMarker(value)
	return m
}
