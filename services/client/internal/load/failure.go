package load

import "time"

// Cause is the class of a failure.
type Cause string

// The causes. A failure has exactly one: the first that applies, in this
// order.
const (
	Overrun   Cause = "overrun"   // not sent: MaxInFlight requests were under way
	Timeout   Cause = "timeout"   // not answered whole within the timeout
	Status    Cause = "status"    // answered with another status than is expected; redirects are not followed
	Transport Cause = "transport" // no connection, or it ended before the whole answer
	Body      Cause = "body"      // the body is not as expected, or of another request
)

// Causes lists every Cause.
var Causes = []Cause{Overrun, Timeout, Status, Transport, Body}

// Failure is one request that failed.
type Failure struct {
	Time    time.Time     // when it failed
	Latency time.Duration // since it was due
	Target  string
	Method  string
	ID      string // the request's, as the target's log may have it
	Fresh   bool   // on a connection of its own
	Cause   Cause
	Detail  string // one line, bounded
}

// Server is what an answer says that gave it. Version is "" where it says none.
type Server struct {
	Instance, Version string
	Target            string // the target that led there first
}
