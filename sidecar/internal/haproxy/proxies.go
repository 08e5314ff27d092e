package haproxy

import (
	"context"
	"fmt"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// Proxies is what the current worker serves.
type Proxies struct {
	PID    int
	Marked bool // its configuration has our marker, of whatever version
	Marker plan.Marker
	Names  []string // such as "frontend web", in HAProxy's order; a listen section is one
}

// Proxies reads the names of all frontends and backends of the current worker.
// An error that wraps plan.ErrNotRunning means that no process answers.
func (c *Client) Proxies(ctx context.Context) (Proxies, error) {
	// Type 3 is frontends and backends (management manual, 9.3, "show stat").
	i, replies, err := infoAnd(ctx, c.ask, "read proxies", "show env "+plan.MarkerVariable, "show stat -1 3 -1")
	if err != nil {
		return Proxies{}, err
	}
	p := Proxies{PID: i.pid, Marked: strings.HasPrefix(strings.TrimSpace(replies[0]), plan.MarkerVariable+"="), Marker: markerFrom(replies[0])}
	if p.Names, err = proxyNames(replies[1]); err != nil {
		return Proxies{}, fmt.Errorf("haproxy: read proxies: %w", err)
	}
	return p, nil
}

// proxyNames reads the reply to `show stat -1 3 -1`. A listen section has two
// lines with one ID.
func proxyNames(reply string) (names []string, err error) {
	last := "" // the ID in the line before
	err = eachStat(reply, nil, func(columns, fields []string) error {
		r := row{columns: columns, fields: fields}
		name, kind, id := r.text("pxname"), strings.ToLower(r.text("svname")), r.text("iid")
		switch {
		case kind != "frontend" && kind != "backend", strings.HasPrefix(name, "<"): // HAProxy's own, such as <HTTPCLIENT>
			return r.err
		case id == last:
			names[len(names)-1] = "listen " + name
		default:
			names = append(names, kind+" "+name)
		}
		last = id
		return r.err
	})
	return names, err
}
