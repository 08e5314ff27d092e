package haproxy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
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
}

// noProxy is the reply for a proxy that HAProxy does not have.
const noProxy = "No such proxy."

// serverType is the column "type" of a server.
const serverType = 2

// statKey is a server by its backend's name and its own.
type statKey struct{ backend, server string }

// parseStat reads the reply to `show stat <backend> 4 -1`, or to that for all
// backends. A backend that HAProxy does not have has no servers.
func parseStat(reply string) (map[statKey]serverStat, error) {
	stats := map[statKey]serverStat{}
	if strings.TrimSpace(reply) == noProxy {
		return stats, nil
	}
	err := eachStat(reply, func(columns, fields []string) error {
		s, isServer, err := parseServerStat(columns, fields)
		if err == nil && isServer {
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

func parseServerStat(columns, fields []string) (s serverStat, isServer bool, err error) {
	r := row{columns: columns, fields: fields}
	if r.number("type") != serverType {
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
	return s, true, r.err
}
