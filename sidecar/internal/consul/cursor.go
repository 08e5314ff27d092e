package consul

import (
	"errors"
	"fmt"
	"time"
)

// cursor is where the next query of a service starts.
type cursor struct {
	// index is the one to wait beyond. Zero asks for an answer at once, and of
	// the leader: Consul never serves such a query from a stream.
	index uint64
	// asOf is when the index was received. No younger connection may carry it.
	asOf time.Time
	// consistent asks the leader to confirm first that it still leads.
	consistent bool
}

// meta is what an answer says of itself, from its headers.
type meta struct {
	index       uint64        // X-Consul-Index
	lastContact time.Duration // X-Consul-LastContact
	knownLeader bool          // X-Consul-KnownLeader
	streamed    bool          // X-Consul-Query-Backend is "streaming"
	filtered    bool          // X-Consul-Results-Filtered-By-ACLs
}

// Why an answer with status 200 is no answer.
var (
	errIndex    = errors.New("answer's index is 0")
	errNoLeader = errors.New("no leader known to the Consul server")
	errFiltered = errors.New("answer filtered by ACLs; the token needs service:read and node:read")
)

// next judges an answer to a query from c: where the following query starts,
// and whether this answer may be used. An answer that may not be used, without
// an error, is to be replaced by the following query's, at once.
//
// The rules for the index are those of Consul's API documentation ("Blocking
// Queries", "Implementation Details"), and two more. An answer whose index went
// backwards is not used: Consul's streaming backend says so, with an empty
// list, when a wait runs out just while its stream starts afresh
// (agent/submatview at v1.22.7, materializer.Query and reset). And after a wait
// that ran out the leader is asked: a streamed answer does not tell how old it
// is (it has KnownLeader false and LastContact 0, always), so this bounds it by
// the wait time.
func (c cursor) next(got meta, maxStale time.Duration) (next cursor, usable bool, err error) {
	stale := got.lastContact > maxStale
	switch {
	case got.index < 1:
		return cursor{}, false, errIndex
	case got.filtered:
		return cursor{}, false, errFiltered
	case !got.knownLeader && !got.streamed:
		return cursor{}, false, errNoLeader
	case stale && c.consistent:
		return cursor{}, false, fmt.Errorf("the answer is %v old, asked for a consistent one", got.lastContact)
	case stale:
		return cursor{consistent: true}, false, nil
	case got.index < c.index:
		return cursor{}, false, nil
	case got.index == c.index:
		return cursor{}, true, nil
	}
	return cursor{index: got.index}, true, nil
}
