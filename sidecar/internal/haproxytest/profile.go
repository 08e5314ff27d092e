package haproxytest

// Profile is what differs between HAProxy's versions, as far as it matters to
// who talks to it.
type Profile struct {
	Version string

	AsyncAddr       bool // `set server … addr` answers before it has acted (2.9)
	Wait            bool // `wait … srv-removable` (3.0)
	SyncReload      bool // `reload` answers with its result (2.7)
	MissingBlanks   bool // some replies lack the empty line that ends them (2.6.12)
	DrainKeepsClock bool // going to and from drain is no change of state for srv_time_since_last_change (after 2.6)
	FailedIsOld     bool // after a failed reload the serving worker is listed as old (3.1)
}

// The profiles of the versions that are tested.
var (
	V26 = Profile{Version: "2.6.12-1+deb12u4", MissingBlanks: true}
	V30 = Profile{Version: "3.0.11-1+deb13u5", AsyncAddr: true, Wait: true, SyncReload: true, DrainKeepsClock: true}
	V34 = Profile{Version: "3.4.7-1", AsyncAddr: true, Wait: true, SyncReload: true, DrainKeepsClock: true, FailedIsOld: true}
)
