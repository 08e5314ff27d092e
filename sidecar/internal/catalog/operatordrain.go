package catalog

import "time"

// OperatorDrain is one instance that an operator keeps in drain.
type OperatorDrain struct {
	Service string    `json:"service"` // Consul's name
	Server  string    `json:"server"`  // the instance's name for its server, see Instance.Server
	Since   time.Time `json:"since"`
}
