package deploy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Order says what is to be deployed.
type Order struct {
	Service, Version string

	Count    int  // nodes of the version in the end; 0: as many as there are old ones
	Size     int  // number of nodes now, by the runner that starts them; 0: as Consul lists them
	Batch    int  // number at a time; 0: all at once
	Redeploy bool // where all are of the version already, replace them

	Timeout      time.Duration // for a wave to become live everywhere
	MinHealthy   time.Duration // for it to stay live everywhere before old ones are stopped; 0: none
	DrainTimeout time.Duration // for one to become drained everywhere
	PauseTimeout time.Duration // for a canary's rollout that is paused to go on

	// Pattern is what the ID of an instance looks like that may be stopped or
	// counted; nil is DefaultPattern. IncludeForeign takes all instances.
	Pattern        *regexp.Regexp
	IncludeForeign bool

	// LoadBalancers is how many there must be; 0: those that Consul lists. Without
	// are the names of those that are left out.
	LoadBalancers int
	Without       []string

	// Nonce is a word that is another in each run: it makes the IDs unique that
	// are proposed to new nodes.
	Nonce string
}

// NodeID is an ID for a new node to register under.
func (o Order) NodeID(n int) string {
	version := strings.Map(func(r rune) rune {
		if r == '/' || r == ',' || r == '=' || r == '%' {
			return '-' // no safe character of DefaultPattern
		}
		return r
	}, o.Version)
	return fmt.Sprintf("%s-%s-%s-%d", o.Service, version, o.Nonce, n)
}

// DefaultPattern matches the service's name, and the name with a digit, '-' or
// '@' after it and then safe characters: no '/', which leads a path elsewhere.
func DefaultPattern(service string) *regexp.Regexp {
	return regexp.MustCompile(`^` + regexp.QuoteMeta(service) + `([0-9@-][A-Za-z0-9_.:@+-]*)?$`)
}

// ParsePattern reads a pattern, which has to match a whole ID.
func ParsePattern(text string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(text); err != nil {
		return nil, err // also what only brackets would make whole
	}
	return regexp.Compile(`^(?:` + text + `)$`)
}

// check names all that is wrong.
func (o Order) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := CheckWord(o.Service); err != nil {
		bad("service %s: %w", Quote(o.Service), err)
	}
	if err := CheckWord(o.Version); err != nil {
		bad("version %s: %w", Quote(o.Version), err)
	} else if len(o.Version) > maxVersion {
		bad("version %s: is longer than %d characters", Quote(o.Version), maxVersion)
	}
	if o.Count < 0 || o.Batch < 0 || o.LoadBalancers < 0 || o.Size < 0 {
		bad("count %d, batch %d, load balancers %d: must not be negative", o.Count, o.Batch, o.LoadBalancers)
	}
	if o.Count > maxNodes || o.Size > maxNodes {
		bad("count %d: must be at most %d", max(o.Count, o.Size), maxNodes)
	}
	if o.Timeout <= 0 || o.DrainTimeout <= 0 {
		bad("timeout %s, drain timeout %s: must be above 0", o.Timeout, o.DrainTimeout)
	}
	if o.MinHealthy < 0 || o.PauseTimeout < 0 {
		bad("min healthy %s, pause timeout %s: must not be negative", o.MinHealthy, o.PauseTimeout)
	}
	return errors.Join(errs...)
}

// The bounds of an order.
const (
	maxVersion = 64 // as the contract in Consul has it
	maxNodes   = 10_000
)
