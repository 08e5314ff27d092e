// Package route is how requests find their service: routes by host and path,
// the map in which HAProxy looks them up, and the lookup itself as a function,
// which tests compare with HAProxy's (docs/routes.md).
//
// Its invariant: what Host and Path give can stand in a map file and on the
// runtime socket as it is. It is pure and imports nothing of ours.
package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Route leads the requests for a host and a path to a backend.
type Route struct {
	Host    string // as Host gives it: "" is every host, "*.example.com" all below one
	Path    string // as Path gives it: "" is every path
	Backend string // of HAProxy
	Strip   int    // how many segments at the start of the path the backend does not see

	// Methods and Headers must match, too, if there are any. They choose among
	// the routes of one host and path.
	Methods []string
	Headers []Header
}

// Header is a header field that a request must have.
type Header struct {
	Name  string
	Value string // "" is any
}

// MaxStrip is how many segments of a path can be taken away.
const MaxStrip = 8

// MaxLabels is how many labels in place of the "*" a wildcard host stands for at
// most: each takes HAProxy another look into the map.
const MaxLabels = 5

const (
	maxHost = 253 // of a name in DNS
	maxPath = 1024
)

// profile is that of browsers, which look up names (UTS 46), with DNS's own rules.
var profile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(true))

// ParseHost checks a host of a route and gives it as HAProxy looks it up: lower case,
// punycode, no dot at the end. "*." at its start stands for one label or more.
func ParseHost(s string) (string, error) {
	name, isWildcard := strings.CutPrefix(s, "*.")
	name = strings.TrimSuffix(name, ".")
	switch {
	case name == "":
		return "", errors.New("must be a host such as shop.example.com or *.example.com")
	case strings.Contains(name, "*"):
		return "", errors.New("may have a wildcard only as the whole first label: *.example.com")
	case strings.Contains(name, ":"):
		return "", errors.New("must be a host without a port")
	case !utf8.ValidString(name):
		return "", errors.New("must be UTF-8")
	case len(name) > 4*maxHost:
		return "", fmt.Errorf("is longer than %d bytes", maxHost)
	}
	ascii, err := profile.ToASCII(name)
	if err != nil {
		return "", errors.New("is no host name: " + strings.TrimPrefix(err.Error(), "idna: "))
	}
	if again, err := profile.ToASCII(ascii); err != nil || again != ascii || strings.HasSuffix(ascii, ".") {
		return "", errors.New("is no host name: its punycode means another")
	}
	for _, r := range ascii { // whatever the library lets pass
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' {
			return "", fmt.Errorf("must not contain the character %q", r)
		}
	}
	if isWildcard {
		ascii = "*." + ascii
	}
	if len(ascii) > maxHost {
		return "", fmt.Errorf("is longer than %d bytes", maxHost)
	}
	return ascii, nil
}

// pathChars are what RFC 3986 allows in a path, without those that mean something
// to HAProxy's runtime socket or in a map file.
const pathChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&()*+,=:@%/"

// ParsePath checks a path of a route and gives it without a slash at its end. It is a
// prefix of whole segments, compared as it is sent.
func ParsePath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", errors.New("must begin with '/'")
	}
	if len(s) > maxPath {
		return "", fmt.Errorf("is longer than %d bytes", maxPath)
	}
	for i := range len(s) {
		if strings.IndexByte(pathChars, s[i]) < 0 {
			return "", fmt.Errorf("must not contain the character %q", s[i])
		}
		if s[i] == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])) {
			return "", errors.New("has a '%' without two hexadecimal digits after it")
		}
	}
	path := strings.TrimSuffix(s, "/")
	if path == "" {
		return "", nil
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("must not have the segment %q", segment)
		}
	}
	return path, nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// Segments returns the number of segments of a parsed path.
func Segments(path string) int { return strings.Count(path, "/") }

// anyHost stands in a key for every host.
const anyHost = "*"

// Key is the route's key in the map. The slash at its end makes a prefix of it
// one of whole segments.
func (r Route) Key() string {
	host := r.Host
	if host == "" {
		host = anyHost
	}
	return host + r.Path + "/"
}

// IsConditional reports whether host and path are not all that a request must have.
func (r Route) IsConditional() bool { return len(r.Methods)+len(r.Headers) > 0 }

// Value is what the map has for the route's key.
func (r Route) Value() string {
	if r.Strip == 0 {
		return r.Backend
	}
	return r.Backend + "/" + strconv.Itoa(r.Strip)
}

// String is the route for people.
func (r Route) String() string {
	host, path := r.Host, r.Path
	if host == "" {
		host = anyHost
	}
	if path == "" {
		path = "/"
	}
	return host + path
}
