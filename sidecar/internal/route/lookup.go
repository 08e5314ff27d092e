package route

import "strings"

// Map is what HAProxy looks routes up in: values by key.
type Map map[string]string

// Lookup finds what HAProxy finds for a request, whose Host header and path are
// as they were sent: the exact host, then wildcards, the longest first, then
// routes of every host; for each the longest path. key is "" if there is none.
func (m Map) Lookup(hostHeader, path string) (key, value string) {
	host := RequestHost(hostHeader)
	if key, value = m.longest(host + path + "/"); key != "" {
		return key, value
	}
	for range MaxLabels {
		_, rest, found := strings.Cut(host, ".")
		if !found || rest == "" {
			break
		}
		host = rest
		if key, value = m.longest("*." + host + path + "/"); key != "" {
			return key, value
		}
	}
	return m.longest(anyHost + path + "/")
}

// longest is map_beg: the longest key that s begins with.
func (m Map) longest(s string) (key, value string) {
	for i := len(s); i > 0; i-- {
		if s[i-1] != '/' {
			continue // every key ends so
		}
		if v, found := m[s[:i]]; found {
			return s[:i], v
		}
	}
	return "", ""
}

// RequestHost is a Host header as HAProxy looks it up: without a port and dots at
// its end, in lower case.
func RequestHost(header string) string {
	host := header
	if strings.HasPrefix(host, "[") { // an IPv6 address
		if end := strings.IndexByte(host, ']'); end > 0 {
			host = host[:end+1]
		}
	} else if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.TrimRight(lower(host), ".")
}

// lower is HAProxy's, which knows ASCII only.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
