package haproxy

import (
	"context"
	"fmt"
	"strings"
)

// backendRows is what `show stat` has of one backend.
type backendRows struct{ backend, reply string }

// each takes the lines of the backend and its servers, with all columns.
func (b backendRows) each(take func(r *row) error) error {
	if strings.TrimSpace(b.reply) == noProxy {
		return nil
	}
	return eachStat(b.reply, nil, func(columns, fields []string) error {
		r := &row{columns: columns, fields: fields}
		if kind := r.number("type"); r.text("pxname") != b.backend || kind != backendType && kind != serverType {
			return r.err
		}
		return take(r)
	})
}

// isWhole reports whether the backend itself is there, or no proxy of its name.
func (b backendRows) isWhole() (isWhole bool, err error) {
	isWhole = strings.TrimSpace(b.reply) == noProxy
	err = b.each(func(r *row) error {
		isWhole = isWhole || r.number("type") == backendType
		return r.err
	})
	return isWhole, err
}

// everyStat reads all proxies, with frontends: of wholeStat not all columns are kept.
const everyStat = "show stat -1 7 -1"

// readBackends reads `show stat` of backends in one line, and who answers it. One that
// HAProxy does not have has no lines. `show stat NAME` takes the first proxy of a name, which
// may be a frontend (before 3.3): then the whole table is read. what is as of infoAnd.
func readBackends(ctx context.Context, ask asker, what string, backends []string) (info, []backendRows, error) {
	commands := make([]string, 0, len(backends))
	for _, b := range backends {
		commands = append(commands, "show stat "+b+" "+withBackends+" -1")
	}
	i, replies, err := infoAnd(ctx, ask, what, commands...)
	if err != nil {
		return info{}, nil, err
	}
	out := make([]backendRows, len(backends))
	isWhole := true
	for at, b := range backends {
		out[at] = backendRows{b, replies[at]}
		is, err := out[at].isWhole()
		if err != nil {
			return info{}, nil, fmt.Errorf("haproxy: %s: %w", what, err)
		}
		isWhole = isWhole && is
	}
	if isWhole {
		return i, out, nil
	}
	if i, replies, err = infoAnd(ctx, ask, what, everyStat); err != nil {
		return info{}, nil, err
	}
	for at := range out {
		out[at].reply = replies[0]
	}
	return i, out, nil
}

// infoAnd sends one line that begins with `show info`, and gives the replies to the rest.
// what is for the error of a reply.
func infoAnd(ctx context.Context, ask asker, what string, commands ...string) (i info, replies []string, err error) {
	text, err := ask(ctx, append([]string{"show info"}, commands...))
	if err != nil {
		return info{}, nil, err
	}
	replies, err = eachReply(text, len(commands)+1)
	if err == nil {
		i, err = parseInfo(replies[0])
	}
	if err != nil {
		return info{}, nil, fmt.Errorf("haproxy: %s: %w", what, err)
	}
	return i, replies[1:], nil
}
