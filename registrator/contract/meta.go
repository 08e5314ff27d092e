package contract

import "time"

// The meta keys. An absent key and an empty value mean the same: not said.
// Every other key belongs to the program that registers.
const (
	KeyVersion = "version" // the program's version: at most MaxVersion printable ASCII characters
	KeyBackup  = "backup"  // a Boolean, as strconv.ParseBool reads it: take traffic only when no other can
	KeyMaxConn = "maxconn" // a whole number, 0 (no limit) to MaxMaxConn: connections at a time
	// KeyAgentPort is a port, 1 to 65535: at the instance's own address, HAProxy's
	// agent check hears there that it leaves.
	KeyAgentPort = "pointsman-agent-port"
	KeyDrain     = "pointsman-drain" // an RFC 3339 time: leaving since then, send nothing new
)

// InstanceKeys are the keys that the registrator writes into an instance's meta
// itself. No other program may use them.
func InstanceKeys() []string {
	return []string{KeyVersion, KeyBackup, KeyMaxConn, KeyAgentPort, KeyDrain, KeyOwner, KeySince}
}

// The bounds of the values.
const (
	MaxVersion = 64        // characters
	MaxMaxConn = 1_000_000 // connections
)

// Meta is what one instance says of itself to the load balancers.
type Meta struct {
	Version string
	Backup  bool
	MaxConn int // connections at a time; 0 is no limit

	AgentPort int // of the agent check; 0 is none

	// Leaving is when the instance began to leave, in UTC; zero if it stays.
	Leaving time.Time
}

// Equal reports whether two say the same.
func (m Meta) Equal(o Meta) bool {
	same := m.Leaving.Equal(o.Leaving)
	m.Leaving, o.Leaving = time.Time{}, time.Time{}
	return same && m == o
}
