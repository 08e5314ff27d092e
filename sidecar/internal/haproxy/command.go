package haproxy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// command is one command and what HAProxy may answer to it.
type command struct {
	name  string // for errors: the command up to its value
	text  string
	check func(reply string) error // nil: HAProxy took it
	waits bool                     // it keeps the connection until something has happened
	again bool                     // twice, it does what it does once
}

// silent: HAProxy says nothing when all is well, and anything else is an error.
func silent(reply string) error {
	if reply != "" {
		return unexpected(reply)
	}
	return nil
}

// staticWeight is what a static balance algorithm answers to a weight
// (src/server.c, server_parse_weight_change_request).
const staticWeight = "Backend is using a static LB algorithm"

func weightTaken(reply string) error {
	if strings.HasPrefix(reply, staticWeight) {
		return fmt.Errorf("%w: %s", plan.ErrStatic, excerpt(reply))
	}
	return silent(reply)
}

// healthOrTracked is silent, and takes it that a server which tracks another
// has no health of its own.
func healthOrTracked(reply string) error {
	if reply == "cannot change health on a tracking server." {
		return nil
	}
	return silent(reply)
}

func unexpected(reply string) error {
	return fmt.Errorf("%w: %s", ErrUnexpectedReply, excerpt(reply))
}

// addrReply is what `set server … addr` answers, in both its generations: 2.x
// says what it need not change, 3.x leaves that out or says "nothing changed".
// It ends the text, so that an error which follows a first half is not taken
// for success: 2.x changes the address although the port is wrong.
var addrReply = regexp.MustCompile(`^(?:nothing changed` +
	`|(?:IP changed from '[^']*' to '[^']*'|no need to change the addr)` +
	`(?:, (?:port changed from '\+?-?\d+' to '\+?-?\d+'|no need to change the port))?` +
	`|port changed from '\+?-?\d+' to '\+?-?\d+'` +
	`)(?: by '[^']*')?\.?$`)

func addrTaken(reply string) error {
	if !addrReply.MatchString(reply) {
		return unexpected(reply)
	}
	return nil
}

// registered accepts warnings before the good news, as in "[WARNING] …
// Ignoring cookie as HTTP mode is disabled."
func registered(reply string) error {
	lines := strings.Split(reply, "\n")
	if strings.TrimSpace(lines[len(lines)-1]) == "New server registered." {
		return nil
	}
	for _, refusal := range refusals {
		if strings.Contains(reply, refusal) {
			return fmt.Errorf("%w: %s", plan.ErrRefused, excerpt(reply))
		}
	}
	return unexpected(reply)
}

// refusals are the answers to `add server` that will be the same next time
// (docs/haproxy-facts.md, fact 19; src/server.c).
var refusals = []string{
	"Backend must use a dynamic load balancing",
	"Backend must use a consistent hashing",
	"Backend does not support dynamic servers",
	"option is not accepted for dynamic server",
	"option cannot be used for dynamic server",
	"not supported for dynamic server",
	"unknown keyword",
}

// ends accepts an answer that ends with this line. Messages about servers that went before
// may stand above it, and in its place, where they are many: what came of it is read back
// (docs/haproxy-facts.md, fact 41).
func ends(answer string) func(reply string) error {
	return func(reply string) error {
		for line := range strings.Lines(reply) {
			if line = strings.TrimSpace(line); line != answer && !aboutServers.MatchString(line) {
				return unexpected(reply)
			}
		}
		if reply == "" {
			return unexpected(reply)
		}
		return nil
	}
}

// backendTaken is ends for a command about a backend. An answer that is another one will be
// the same next time, unless it says what passes.
func backendTaken(answer string) func(reply string) error {
	taken := ends(answer)
	return func(reply string) error {
		err := taken(reply)
		if err == nil || reply == "" || slices.ContainsFunc(passing, func(words string) bool { return strings.Contains(reply, words) }) {
			return err
		}
		return fmt.Errorf("%w: %s", plan.ErrBackendRefused, excerpt(reply))
	}
}

// passing are the answers to `del backend` that HAProxy gives to what was right when it was
// last read: another program has added a server or published it, or a stream is about to end.
var passing = []string{
	"Only a backend without server can be deleted.",
	"Backend must be unpublished prior to its deletion.",
	"Backend still has attached streams on it.",
}

// aboutServers are such messages.
var aboutServers = regexp.MustCompile(`^(?:Server \S+ is |backend '\S+' has no server available|Server deleted\.)`)

func deleted(reply string) error {
	if reply != "Server deleted." {
		return unexpected(reply)
	}
	return nil
}

const waitExpired = "Wait delay expired."

// waited takes every known end of `wait … srv-removable`: the `del server`
// behind it says what became of it. Through the master it is interrupted.
func waited(reply string) error {
	switch {
	case reply == "Done.", reply == waitExpired, reply == "Interrupted.", strings.HasPrefix(reply, "Failed."):
		return nil
	}
	return unexpected(reply)
}
