package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// maxPlainName is the longest Consul service ID that is used as a server name
// as it is. HAProxy sets no limit, but its status page and logs are read by
// people, and a command line holds 16 KB.
const maxPlainName = 64

// hashLen is the number of hexadecimal digits in a name's hash: 48 bits, so
// that among 10,000 odd IDs two meet with a chance of about 2 in 10 million.
const hashLen = 12

// ServerName returns HAProxy's name for the server of a Consul service ID: the
// ID itself where that is a legal name, else its legal characters with a hash
// of the whole. It depends on nothing but its arguments, so it is the same on
// every load balancer and after every restart.
//
// Consul's IDs are unique on their node only. Give node for an ID that stands
// on several nodes of the same service, and "" for all others.
//
// HAProxy's legal characters are letters, digits, '-', '_', '.' and ':'
// (configuration manual, section 2). A name never starts with "slot-", which
// is how spare servers are called, and never looks like a hashed one unless it
// is, so two different IDs never share a name.
func ServerName(id, node string) string {
	if node == "" && isPlainName(id) {
		return id
	}
	// The length says where the node ends, whatever characters are in it.
	sum := sha256.Sum256([]byte(strconv.Itoa(len(node)) + ":" + node + id))
	return cleanName(id) + hashMark + hex.EncodeToString(sum[:])[:hashLen]
}

// MayBeNamed reports whether a server of that name may be one of a service ID,
// on whatever node: its name says so, or does not tell.
func MayBeNamed(server, id string) bool {
	return strings.HasPrefix(server, SlotPrefix) || server == id ||
		looksHashed(server) && strings.HasPrefix(server, cleanName(id)+hashMark)
}

// cleanName is the legal characters of an ID, as far as they fit before a hash.
func cleanName(id string) string {
	clean := strings.Map(func(r rune) rune {
		if isNameByte(r) {
			return r
		}
		return '_'
	}, id)
	// With the mark behind it: "slot" alone would become a slot's name, too.
	if strings.HasPrefix(clean+hashMark, SlotPrefix) || clean == "" || clean[0] == '.' || clean[0] == ':' {
		clean = "_" + clean
	}
	const keep = maxPlainName - len(hashMark) - hashLen
	if len(clean) > keep {
		clean = clean[:keep]
	}
	return clean
}

// SlotPrefix begins the names of spare servers, and of nothing else.
const SlotPrefix = "slot-"

const hashMark = "-h"

func isPlainName(id string) bool {
	if id == "" || len(id) > maxPlainName || strings.HasPrefix(id, SlotPrefix) || looksHashed(id) {
		return false
	}
	for _, r := range id {
		if !isNameByte(r) {
			return false
		}
	}
	// '#' begins an id in commands and is no legal byte anyway; a leading dot
	// or colon is legal but reads like a path or a port.
	return id[0] != '.' && id[0] != ':'
}

func looksHashed(id string) bool {
	i := len(id) - hashLen - len(hashMark)
	if i < 0 || id[i:i+len(hashMark)] != hashMark {
		return false
	}
	for _, c := range []byte(id[i+len(hashMark):]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isNameByte(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' ||
		r == '-' || r == '_' || r == '.' || r == ':'
}
