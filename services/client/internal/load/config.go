package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// MaxRate is the highest rate that is accepted, in requests a second.
const MaxRate = 100_000

// Config says what to send, and where to.
type Config struct {
	Targets []*url.URL // http or https, with a host; taken in turns. SetTargets changes them

	Rate     float64       // requests a second over all targets, above 0 and at most MaxRate
	Duration time.Duration // 0: until the context of Run is done

	PostShare  float64 // share of POST among the requests, 0 to 1; the others are GET
	FreshShare float64 // share of requests that get a connection of their own, 0 to 1

	Timeout     time.Duration // of one request, from connecting to its last byte; above 0
	MaxInFlight int           // requests under way at once; one more is a failure; at least 1

	// IdleTimeout is how long a kept connection may be idle before it is
	// closed; above 0. It should be shorter than the other side's, since HTTP
	// has no way to tell a connection that is about to be closed: a request
	// that is sent at that moment is lost, and counted.
	IdleTimeout time.Duration

	UserAgent string
	Host      string // of each request; "" is the target's

	// Status tells which statuses are a success; nil: 200 to 299. ParseStatuses makes one.
	Status func(code int) bool
	// Body is what the first 64 KiB of a body must match; nil: nothing.
	Body *regexp.Regexp
	// Echo says that the targets are API nodes of services/api, whose answer repeats the
	// request: a success has its ID, and the length and SHA-256 of what was posted.
	// Without it a request has its ID in the header X-Request-Id.
	Echo bool
	// ServerHeader names the header of an answer that has the server's name; "" is none.
	// With Echo the body has it.
	ServerHeader string

	// OnFailure and OnServer may be nil. They are called from many goroutines
	// and hold up the request that they are about.
	OnFailure func(Failure)
	OnServer  func(Server) // at the first answer from each server

	// Dial opens connections; nil stands for the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// FieldError says which field of a Config is wrong.
type FieldError struct {
	Field string // as in Config
	Err   error  // has the value
}

func (e FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the error without the field.
func (e FieldError) Unwrap() error { return e.Err }

// Validate returns one FieldError for each field that is wrong.
func (c *Config) Validate() []FieldError {
	var bad []FieldError
	check := func(ok bool, field, format string, args ...any) {
		if !ok {
			bad = append(bad, FieldError{field, fmt.Errorf(format, args...)})
		}
	}
	check(len(c.Targets) > 0, "Targets", "none is given")
	for _, t := range c.Targets {
		if err := validTarget(t); err != nil {
			bad = append(bad, FieldError{"Targets", err})
		}
	}
	// Written so that NaN fails.
	check(c.Rate > 0 && c.Rate <= MaxRate, "Rate", "%v: must be above 0 and at most %d requests a second", c.Rate, MaxRate)
	check(c.PostShare >= 0 && c.PostShare <= 1, "PostShare", "%v: must be from 0 to 1", c.PostShare)
	check(c.FreshShare >= 0 && c.FreshShare <= 1, "FreshShare", "%v: must be from 0 to 1", c.FreshShare)
	check(c.Duration >= 0, "Duration", "%s: must not be negative", c.Duration)
	check(c.Timeout > 0, "Timeout", "%s: must be above 0", c.Timeout)
	check(c.IdleTimeout > 0, "IdleTimeout", "%s: must be above 0", c.IdleTimeout)
	check(c.MaxInFlight > 0, "MaxInFlight", "%d: must be at least 1", c.MaxInFlight)
	return bad
}

func validTarget(t *url.URL) error {
	switch {
	case t == nil:
		return errors.New("no URL")
	case t.User != nil:
		return fmt.Errorf("%q: must not have a user or password", t.Redacted()) // it is printed with each failure
	case t.Scheme != "http" && t.Scheme != "https":
		return fmt.Errorf("%q: must begin with http:// or https://", t)
	case t.Hostname() == "":
		return fmt.Errorf("%q: has no host", t)
	}
	return nil
}

// ParseStatuses reads statuses with a comma between two, each a number such as 200 or a
// class such as 2xx.
func ParseStatuses(text string) (func(code int) bool, error) {
	var codes [600]bool
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		first, isClass := strings.CutSuffix(word, "xx")
		from, count := 1, 1
		if isClass {
			from, count = 100, 100
		}
		n, err := strconv.ParseUint(first, 10, 16)
		if err != nil || int(n)*from < 200 || int(n)*from >= len(codes) {
			return nil, fmt.Errorf("%q: want statuses from 200 to 599 such as 200,404 or 2xx", text)
		}
		for i := range count {
			codes[int(n)*from+i] = true
		}
	}
	return func(code int) bool { return code >= 0 && code < len(codes) && codes[code] }, nil
}
