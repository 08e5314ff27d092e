package haproxy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// serverStat is what is used of one server's line of `show stat` (management
// manual 9.1). Its columns are found by name: every release adds some.
type serverStat struct {
	backend  string
	name     string
	sessions int // scur: being served by it
	queued   int // qcur: waiting for it
	maxConn  int // slim; 0 is no limit
	backup   bool
	last     plan.Check // of one that is down

	// unpublished, of a backend: no request is routed to it.
	unpublished bool
}

// noProxy is the reply for a proxy that HAProxy does not have.
const noProxy = "No such proxy."

// The column "type".
const (
	backendType = 1
	serverType  = 2
)

// withBackends are the lines of `show stat` that are read, as a sum of kinds: of
// backends (2) and of servers (4).
const withBackends = "6"

// statKey is a server by its backend's name and its own; "" is the backend itself, if it is
// not published.
type statKey struct{ backend, server string }

// parseStat reads the reply to `show stat <backend> 6 -1`, or to that for all
// backends. A backend that HAProxy does not have has no servers.
func parseStat(reply string) (map[statKey]serverStat, error) {
	stats := make(map[statKey]serverStat, strings.Count(reply, "\n"))
	if strings.TrimSpace(reply) == noProxy {
		return stats, nil
	}
	err := eachStat(reply, func(columns, fields []string) error {
		s, isUsed, err := parseServerStat(columns, fields)
		if err == nil && isUsed {
			stats[statKey{s.backend, s.name}] = s
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return stats, nil
}

// eachStat reads the table of a reply to `show stat`, line by line.
func eachStat(reply string, take func(columns, fields []string) error) error {
	table, isTable := strings.CutPrefix(reply, "# ")
	if !isTable {
		return fmt.Errorf("show stat: %w: %s", ErrUnexpectedReply, excerpt(reply))
	}
	r := csv.NewReader(strings.NewReader(table))
	r.FieldsPerRecord, r.LazyQuotes = -1, true
	columns, err := r.Read()
	if err != nil {
		return fmt.Errorf("show stat: header: %w", err)
	}
	columns, r.ReuseRecord = slices.Clone(columns), true
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("show stat: %w", err)
		}
		if err := take(columns, fields); err != nil {
			return fmt.Errorf("show stat: %w in %s", err, excerpt(strings.Join(fields, ",")))
		}
	}
}

func parseServerStat(columns, fields []string) (s serverStat, isUsed bool, err error) {
	r := row{columns: columns, fields: fields}
	switch r.number("type") {
	case serverType:
	case backendType:
		// Since 3.4 (docs/haproxy-facts.md, fact 41).
		i := slices.Index(columns, "status")
		isUnpublished := i >= 0 && i < len(fields) && strings.Contains(fields[i], "(UNPUB)")
		return serverStat{backend: r.text("pxname"), unpublished: true}, isUnpublished, r.err
	default:
		return serverStat{}, false, r.err
	}
	s = serverStat{
		backend:  r.text("pxname"),
		name:     r.text("svname"),
		sessions: r.number("scur"),
		queued:   r.number("qcur"),
		maxConn:  r.optional("slim"),
		backup:   r.optional("bck") > 0,
	}
	if i := slices.Index(columns, "status"); i >= 0 && i < len(fields) && strings.HasPrefix(fields[i], "DOWN") {
		s.last = lastCheck(columns, fields, fields[i])
	}
	return s, true, r.err
}

// lastCheck reads what the last check of a server that is down came to. Its agent
// check has it down where the status says so. The words may be the server's own.
func lastCheck(columns, fields []string, status string) plan.Check {
	field := func(column string) string {
		if i := slices.Index(columns, column); i >= 0 && i < len(fields) {
			return fields[i]
		}
		return ""
	}
	check := func(status, code, words string) plan.Check {
		n, _ := strconv.Atoi(field(code)) // most checks have none
		// A star stands before the last status while the next check is under way.
		word := strings.TrimPrefix(field(status), "* ")
		if word == "INI" || word == "UNK" {
			return plan.Check{} // none has ended yet
		}
		return plan.Check{Status: catalog.Printable(strings.Clone(word)), Code: n, Words: catalog.Printable(strings.Clone(field(words)))}
	}
	if strings.Contains(status, "(agent)") {
		return check("agent_status", "agent_code", "last_agt")
	}
	return check("check_status", "check_code", "last_chk")
}
