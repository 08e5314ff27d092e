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

// statTable is the servers of a reply to `show stat`, in its order.
type statTable struct {
	all   []serverStat
	next  int // what comes next where both tables have the same order
	sites map[statKey]int

	unpublished map[string]bool // backends
}

// statKey is a server by its backend's name and its own.
type statKey struct{ backend, server string }

// find returns a server's line, or nil.
func (t *statTable) find(backend, server string) *serverStat {
	if t.next < len(t.all) && t.all[t.next].name == server && t.all[t.next].backend == backend {
		t.next++
		return &t.all[t.next-1]
	}
	if t.sites == nil {
		t.sites = make(map[statKey]int, len(t.all))
		for i, s := range t.all {
			t.sites[statKey{s.backend, s.name}] = i
		}
	}
	i, found := t.sites[statKey{backend, server}]
	if !found {
		return nil
	}
	t.next = i + 1
	return &t.all[i]
}

// parseStat reads the reply to `show stat <backend> 6 -1`, or to that for all
// backends. A backend that HAProxy does not have has no servers.
func parseStat(reply string) (statTable, error) {
	if strings.TrimSpace(reply) == noProxy {
		return statTable{}, nil
	}
	all, unpublished := make([]serverStat, 0, strings.Count(reply, "\n")), map[string]bool{}
	err := eachStat(reply, serverColumns, func(columns, fields []string) error {
		s, isUsed, err := parseServerStat(columns, fields)
		switch {
		case err != nil || !isUsed:
		case s.unpublished:
			unpublished[s.backend] = true
		default:
			all = append(all, s)
		}
		return err
	})
	if err != nil {
		return statTable{}, err
	}
	return statTable{all: all, unpublished: unpublished}, nil
}

// serverColumns are those that parseServerStat reads.
var serverColumns = []string{
	"type", "pxname", "svname", "scur", "qcur", "slim", "bck", "status",
	"check_status", "check_code", "last_chk", "agent_status", "agent_code", "last_agt",
}

// eachStat reads the table of a reply to `show stat`, line by line, as far as the columns
// that are used; nil: all of them.
func eachStat(reply string, used []string, take func(columns, fields []string) error) error {
	table, isTable := strings.CutPrefix(reply, "# ")
	if !isTable {
		return fmt.Errorf("show stat: %w: %s", ErrUnexpectedReply, excerpt(reply))
	}
	r := statLines{rest: table}
	columns, err := r.read()
	if err != nil {
		return fmt.Errorf("show stat: header: %w", err)
	}
	columns = slices.Clone(columns)
	for i, column := range columns {
		if slices.Contains(used, column) {
			r.most = i + 1
		}
	}
	for {
		fields, err := r.read()
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

// statLines are lines of CSV. HAProxy quotes a field only where it has to, which is
// next to never; without quotes a line takes a tenth of the time. From the first quote
// on encoding/csv reads.
type statLines struct {
	rest   string
	fields []string // of the line before
	most   int      // fields that are read of a line without quotes; 0: all
	quoted *csv.Reader
}

// read returns the fields of the next line, which are good until it is called again.
func (l *statLines) read() ([]string, error) {
	for l.quoted == nil {
		line, rest, _ := strings.Cut(l.rest, "\n")
		if strings.IndexByte(line, '"') >= 0 {
			l.quoted = csv.NewReader(strings.NewReader(l.rest))
			l.quoted.FieldsPerRecord, l.quoted.LazyQuotes, l.quoted.ReuseRecord = -1, true, true
			break
		}
		if l.rest == "" {
			return nil, io.EOF
		}
		l.rest = rest
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			continue
		}
		l.fields = l.fields[:0]
		for field := range strings.SplitSeq(line, ",") {
			if l.fields = append(l.fields, field); len(l.fields) == l.most {
				break
			}
		}
		return l.fields, nil
	}
	return l.quoted.Read()
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
