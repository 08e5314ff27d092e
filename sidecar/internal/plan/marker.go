package plan

import "strings"

// MarkerVariable is the environment variable by which a running worker tells
// what its configuration was made from: the file has `setenv POINTSMAN_MARK
// MARKER` in a global section, and `show env` gives it back.
const MarkerVariable = "POINTSMAN_MARK"

// markerFormat is the version of the marker's own form.
const markerFormat = "1"

// Marker is what a configuration was made from, apart from its servers: short
// digests, in hexadecimal. The zero Marker is a configuration that is not
// ours.
type Marker struct {
	Template string // of the template's text
	Services string // of the set of backends
	Settings string // of every setting but the set of backends
}

// String gives the value of MarkerVariable: "1.TEMPLATE.SERVICES.SETTINGS".
func (m Marker) String() string {
	return strings.Join([]string{markerFormat, m.Template, m.Services, m.Settings}, ".")
}

// ParseMarker reads what String wrote. Anything else is not ours: false.
func ParseMarker(s string) (Marker, bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 || parts[0] != markerFormat {
		return Marker{}, false
	}
	for _, digest := range parts[1:] {
		if !isDigest(digest) {
			return Marker{}, false
		}
	}
	return Marker{Template: parts[1], Services: parts[2], Settings: parts[3]}, true
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
