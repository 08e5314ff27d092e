package haproxytest

// Fault is what goes wrong with an exchange.
type Fault int

// The faults.
const (
	// Refuse: the connection is closed before anything is read.
	Refuse Fault = iota + 1
	// Hang: the line is read and never answered.
	Hang
	// CloseEarly: the line is read, not executed, and the connection closed.
	CloseEarly
	// Garbage: the line is not executed and the answer is no HAProxy's.
	Garbage
	// HalfReply: the line is executed, half of the answer is sent.
	HalfReply
	// LostReply: the line is executed and not answered.
	LostReply
	// BreakAfterFirst: the first command is executed and answered, then the
	// connection breaks.
	BreakAfterFirst
)

// Faults lists them all, but Hang, which costs its time.
var Faults = []Fault{Refuse, CloseEarly, Garbage, HalfReply, LostReply, BreakAfterFirst}

// String names the fault in a test's name.
func (f Fault) String() string {
	return [...]string{"none", "refuse", "hang", "close early", "garbage", "half reply", "lost reply", "break after first"}[f]
}
