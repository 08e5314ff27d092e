package haproxy

import (
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// release is a version's branch, as far as it can be read: 2.6.12-1 is {2, 6}.
type release struct{ major, minor int }

// releaseOf reads HAProxy's version string. An unreadable one is the zero
// release, that can do the least.
func releaseOf(version string) release {
	major, rest, found := strings.Cut(version, ".")
	if !found {
		return release{}
	}
	digits := rest
	for i, c := range []byte(rest) {
		if c < '0' || c > '9' {
			digits = rest[:i]
			break
		}
	}
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(digits)
	if errA != nil || errB != nil || a < 0 {
		return release{}
	}
	return release{a, b}
}

func (r release) atLeast(o release) bool {
	return r.major > o.major || r.major == o.major && r.minor >= o.minor
}

// dynamicSince is the first release whose `wait … srv-removable` tells when a
// server may be deleted. Before it a deleted server was also unsafe (issues
// #2298, #2323).
var dynamicSince = release{3, 0}

// backendsSince is the first release with `add backend` (docs/haproxy-facts.md, fact 41).
var backendsSince = release{3, 4}

func capabilities(version string) plan.Capabilities {
	r := releaseOf(version)
	return plan.Capabilities{Version: version, Dynamic: r.atLeast(dynamicSince), Backends: r.atLeast(backendsSince)}
}

// ProgramCapabilities reads what `haproxy -v` prints ("HAProxy version 2.6.12
// …"): what a process will be able to do that does not run yet. It is zero for
// anything else.
func ProgramCapabilities(output string) plan.Capabilities {
	first, _, _ := strings.Cut(output, "\n")
	_, rest, found := strings.Cut(first, "version ")
	version, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if !found || releaseOf(version) == (release{}) {
		return plan.Capabilities{}
	}
	return capabilities(version)
}
