package plan

import (
	"encoding/json"
	"strings"
)

// MarkerVariable is the environment variable by which a running worker tells
// what its configuration was made from: the file has `setenv POINTSMAN_MARK
// MARKER` in a global section, and `show env` gives it back.
const MarkerVariable = "POINTSMAN_MARK"

// OwnerVariable is the one that says which sidecar writes the configuration. It has an
// Owner as its String.
const OwnerVariable = "POINTSMAN_OWNER"

// The versions of the marker's own form. The first one has no owner.
const (
	markerUnowned = "1"
	markerFormat  = "2"
)

// Marker is what a configuration was made from, apart from its servers: short
// digests, in hexadecimal. The zero Marker is a configuration that is not
// ours.
type Marker struct {
	Template string // of the template's text
	Services string // of the set of backends
	Settings string // of every setting but the set of backends
	Owner    string // of the path of the owner's file; "" where that is not known
}

// String returns the value of MarkerVariable: "2.TEMPLATE.SERVICES.SETTINGS.OWNER", or
// "1.TEMPLATE.SERVICES.SETTINGS" where no owner is known.
func (m Marker) String() string {
	if m.Owner == "" {
		return strings.Join([]string{markerUnowned, m.Template, m.Services, m.Settings}, ".")
	}
	return strings.Join([]string{markerFormat, m.Template, m.Services, m.Settings, m.Owner}, ".")
}

// ParseMarker reads what String wrote. Anything else is not ours: false.
func ParseMarker(s string) (Marker, bool) {
	parts := strings.Split(s, ".")
	for _, digest := range parts[1:] {
		if !isDigest(digest) {
			return Marker{}, false
		}
	}
	switch {
	case len(parts) == 4 && parts[0] == markerUnowned:
		return Marker{Template: parts[1], Services: parts[2], Settings: parts[3]}, true
	case len(parts) == 5 && parts[0] == markerFormat:
		return Marker{Template: parts[1], Services: parts[2], Settings: parts[3], Owner: parts[4]}, true
	}
	return Marker{}, false
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

// Owner is the sidecar that writes a haproxy.cfg. The file is what makes it one: it
// goes on with the same file under another name, and on another host, as a container
// does.
type Owner struct {
	Name string `json:"name"` // of its load balancer
	Host string `json:"host"` // the name of its machine or container
	File string `json:"file"` // the absolute path of haproxy.cfg, as it has that
}

// maxOwned bounds each text of an Owner, in bytes: a line of haproxy.cfg has an end.
const maxOwned = 400

// String returns the value of OwnerVariable: JSON, without a single quote, so that it can
// stand between two in haproxy.cfg. Texts are cut.
func (o Owner) String() string {
	for _, text := range []*string{&o.Name, &o.Host, &o.File} {
		*text = (*text)[:min(len(*text), maxOwned)]
	}
	out, err := json.Marshal(o)
	if err != nil {
		return "{}" // three strings always marshal
	}
	return strings.ReplaceAll(string(out), "'", `\u0027`)
}

// ParseOwner reads what String wrote. The zero Owner is that of anything else.
func ParseOwner(s string) Owner {
	var o Owner
	if json.Unmarshal([]byte(s), &o) != nil {
		return Owner{}
	}
	return o
}
