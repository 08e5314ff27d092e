package catalog

import (
	"errors"
	"slices"
	"time"
)

// ErrWithoutRollouts says that the rollouts were never read, and instances are used with
// their own weights meanwhile.
var ErrWithoutRollouts = errors.New("instances used without rollouts")

// Rollout is how the versions of a service share its traffic, as an operator has
// recorded it in Consul, and what has become of that.
type Rollout struct {
	State      string    // see package rollout; or InPreview
	Shares     []Share   // by version; none: the instances have their own weights
	ModifiedBy string    // for people
	ModifiedAt time.Time //

	// Ignored says why the shares are not the weights; "" where they are.
	Ignored string
	// Refused says why a newer document is not used; "" where there is none.
	Refused string
}

// InPreview is the State of a preview backend, which has the instances of the version that
// the rollout of its service brings in.
const InPreview = "preview"

// Share is the part of one version.
type Share struct {
	Version   string
	Percent   int // wanted, 0 to 100
	Instances int // that the share is spread over
	Weight    int // the sum of theirs
}

// Equal reports whether two rollouts say the same.
func (r *Rollout) Equal(o *Rollout) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.State == o.State && slices.Equal(r.Shares, o.Shares) && r.ModifiedBy == o.ModifiedBy && r.ModifiedAt.Equal(o.ModifiedAt) &&
		r.Ignored == o.Ignored && r.Refused == o.Refused
}
