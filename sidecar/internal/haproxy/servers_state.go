package haproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serverState is one line of `show servers state` (management manual 9.3; its
// columns grew from 20 in 2.2 to 25 in 2.4, so they are found by name).
type serverState struct {
	backendID   int // HAProxy's number of the backend, srv_id's namespace
	backend     string
	id          int
	name        string
	addr        netip.AddrPort // invalid where HAProxy has none, or not an IP
	op          int            // srv_op_state
	admin       int            // srv_admin_state
	weight      int            // srv_uweight
	config      int            // srv_iweight
	check       int            // srv_check_state
	agent       int            // srv_agent_state
	agentPort   int            // srv_agent_port
	sinceChange time.Duration
}

// Bits of srv_admin_state (include/haproxy/server-t.h, alike from 2.6 to 3.4).
const (
	// adminMaint is FMAINT (1), IMAINT (2) and RMAINT (32). CMAINT (4) is not
	// among them: it only says that the file has `disabled`, and stays set on
	// a server that has been made ready. Nor is 64, never cleared once a
	// server's name in DNS was changed.
	adminMaint = 0x01 | 0x02 | 0x20
	adminDrain = 0x08 | 0x10 // FDRAIN, IDRAIN
	// adminFileMaint is CMAINT: the server's line in the file has `disabled`.
	adminFileMaint = 0x04
)

// Values of srv_op_state. Stopping (3) is neither: it takes no new sessions.
const (
	opStarting = 1
	opRunning  = 2
)

// Bits of srv_check_state and srv_agent_state (include/haproxy/check-t.h). A
// server in maint keeps its own, with checkPaused (8) for its health check only:
// its agent check goes on. `disable health` and `disable agent` clear
// checkEnabled.
const (
	checkInProgress = 0x01 // an answer is awaited, also after it was disabled
	checkConfigured = 0x02
	checkEnabled    = 0x04
	checkOn         = checkConfigured | checkEnabled
)

// noBackend is the reply for a backend that HAProxy does not have.
const noBackend = "Can't find backend."

// parseServersState reads the reply for one backend, or for all. found is false if
// there is no such backend.
func parseServersState(reply string) (servers []serverState, found bool, err error) {
	if strings.TrimSpace(reply) == noBackend {
		return nil, false, nil
	}
	version, rest, _ := strings.Cut(reply, "\n")
	header, rows, _ := strings.Cut(rest, "\n")
	names, isHeader := strings.CutPrefix(header, "# ")
	if version != "1" || !isHeader {
		return nil, false, fmt.Errorf("show servers state: %w: %s", ErrUnexpectedReply, excerpt(reply))
	}
	columns := strings.Fields(names)
	servers = make([]serverState, 0, strings.Count(rows, "\n"))
	var fields []string
	for row := range strings.Lines(rows) {
		fields = slices.AppendSeq(fields[:0], strings.FieldsSeq(row))
		s, err := parseServerState(columns, fields)
		if err != nil {
			return nil, false, fmt.Errorf("show servers state: %w in %s", err, excerpt(row))
		}
		servers = append(servers, s)
	}
	return servers, true, nil
}

// stateColumns are those that parseServerState reads.
var stateColumns = []string{
	"be_id", "be_name", "srv_id", "srv_name", "srv_addr", "srv_op_state", "srv_admin_state", "srv_uweight", "srv_iweight",
	"srv_time_since_last_change", "srv_check_state", "srv_agent_state", "srv_port", "srv_agent_port",
}

func parseServerState(columns, fields []string) (serverState, error) {
	if len(fields) < len(columns) {
		return serverState{}, fmt.Errorf("%w: %d fields under %d columns", ErrUnexpectedReply, len(fields), len(columns))
	}
	r := row{columns: columns, fields: fields}
	s := serverState{
		backendID: r.number("be_id"),
		backend:   r.text("be_name"),
		id:        r.number("srv_id"),
		name:      r.text("srv_name"),
		op:        r.number("srv_op_state"),
		admin:     r.number("srv_admin_state"),
		weight:    r.number("srv_uweight"),
		config:    r.number("srv_iweight"),
		check:     r.number("srv_check_state"),
		agent:     r.number("srv_agent_state"),
		agentPort: r.number("srv_agent_port"),
	}
	s.sinceChange = time.Duration(r.number("srv_time_since_last_change")) * time.Second
	s.addr = r.addrPort("srv_addr", "srv_port")
	return s, r.err
}

// row reads fields by their columns' names and keeps the first error.
type row struct {
	columns, fields []string
	err             error
}

func (r *row) text(column string) string {
	i := slices.Index(r.columns, column)
	if i < 0 || i >= len(r.fields) || r.fields[i] == "" {
		r.fail(fmt.Errorf("%w: no %s", ErrUnexpectedReply, column))
		return ""
	}
	return r.fields[i]
}

// number reads a number of 0 or more that fits 31 bits.
func (r *row) number(column string) int {
	text := r.text(column)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		r.fail(fmt.Errorf("%w: %s %q: not a number of 0 or more", ErrUnexpectedReply, column, text))
		return 0
	}
	return int(n)
}

// optional reads a number that may be missing: 0.
func (r *row) optional(column string) int {
	if i := slices.Index(r.columns, column); i >= 0 && i < len(r.fields) && r.fields[i] == "" {
		return 0
	}
	return r.number(column)
}

// addrPort returns an invalid one where HAProxy has no address ("-"), or one
// that is not an IP address.
func (r *row) addrPort(addr, port string) netip.AddrPort {
	a, err := netip.ParseAddr(r.text(addr))
	p := r.number(port)
	if err != nil || p > 65535 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p))
}

func (r *row) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
