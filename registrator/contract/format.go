package contract

import (
	"strconv"
	"time"
)

// Format returns the keys and values that say m. Zero values have no key. It
// does not check m: Parse(m.Format()) does.
func (m Meta) Format() map[string]string {
	out := make(map[string]string, 5)
	if m.Version != "" {
		out[KeyVersion] = m.Version
	}
	if m.Backup {
		out[KeyBackup] = "true"
	}
	if m.MaxConn != 0 {
		out[KeyMaxConn] = strconv.Itoa(m.MaxConn)
	}
	if m.AgentPort != 0 {
		out[KeyAgentPort] = strconv.Itoa(m.AgentPort)
	}
	if !m.Leaving.IsZero() {
		out[KeyDrain] = m.Leaving.UTC().Format(time.RFC3339Nano)
	}
	return out
}
