package catalog

import "time"

// Pause is the pause of a service, as an operator has recorded it in Consul.
type Pause struct {
	Until      time.Time `json:"until,omitzero"` // the deadline; zero: it is not paused
	ModifiedBy string    `json:"modified_by,omitempty"`
	ModifiedAt time.Time `json:"modified_at,omitzero"`
	Reason     string    `json:"reason,omitempty"` // for people
	// Refused says why the newest document in Consul is not used.
	Refused string `json:"refused,omitempty"`
}
