// Package haproxycfg knows what begins a section of haproxy.cfg. What refuses such a line
// in a setting and what reads the file back must agree on it.
//
// It is a leaf: it imports nothing of this project.
package haproxycfg

// BeginsSection reports whether a line's first word begins a section (configuration manual, 2
// and 3).
func BeginsSection(word string) bool {
	switch word {
	case "global", "defaults", "frontend", "backend", "listen",
		"peers", "resolvers", "mailers", "userlist", "cache",
		"program", "ring", "http-errors", "log-forward", "fcgi-app",
		"crt-store", "acme", "traces", "log-profile", "healthcheck":
		return true
	}
	return false
}
