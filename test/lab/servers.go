package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Server is one server as HAProxy itself, or its file, tells of it.
type Server struct {
	Name, Addr string
	Weight     int
	Up         bool // takes traffic: ready and, for all that HAProxy knows, alive
}

// Servers asks HAProxy for the servers of a backend, whatever the sidecar says.
func (b *Balancer) Servers(ctx context.Context, backend string) ([]Server, error) {
	out, err := b.Runtime(ctx, "show servers state "+backend)
	if err != nil {
		return nil, err
	}
	servers, err := ParseServersState(out)
	if err != nil {
		return nil, fmt.Errorf("lab: %s: show servers state %s: %w", b.Name, backend, err)
	}
	return servers, nil
}

// As `show servers state` has them (management manual). A server that its file
// had in maint keeps that bit when it was made ready, and one whose name was
// changed by DNS keeps that bit, too.
const (
	running  = "2" // srv_op_state
	byConfig = 4   // srv_admin_state
	renamed  = 64
)

// ParseServersState reads the answer to `show servers state` by its header:
// columns were added in time.
func ParseServersState(out string) (servers []Server, err error) {
	var header []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && fields[0] == "#":
			header = fields[1:]
			continue
		case len(fields) < 2: // the version of the format; the end
			continue
		case len(header) == 0 || len(fields) > len(header):
			return nil, fmt.Errorf("%q", strings.TrimSpace(out))
		}
		row := map[string]string{}
		for i, f := range fields {
			row[header[i]] = f
		}
		weight, errWeight := strconv.Atoi(row["srv_uweight"])
		admin, errAdmin := strconv.Atoi(row["srv_admin_state"])
		if err := errors.Join(errWeight, errAdmin); err != nil {
			return nil, fmt.Errorf("%w in %q", err, line)
		}
		servers = append(servers, Server{
			Name: row["srv_name"], Addr: net.JoinHostPort(row["srv_addr"], row["srv_port"]), Weight: weight,
			Up: row["srv_op_state"] == running && admin&^(byConfig|renamed) == 0,
		})
	}
	if len(header) == 0 {
		return nil, fmt.Errorf("%q", strings.TrimSpace(out))
	}
	return servers, nil
}

// FileServers reads the servers of a backend from haproxy.cfg. Up is what is
// not disabled there.
func (b *Balancer) FileServers(backend string) ([]Server, error) {
	text, err := os.ReadFile(b.Config())
	if err != nil {
		return nil, err
	}
	servers, err := parseFileServers(string(text), backend)
	if err != nil {
		return nil, fmt.Errorf("lab: %s: backend %s: %w", b.Config(), backend, err)
	}
	return servers, nil
}

func parseFileServers(text, backend string) (servers []Server, err error) {
	found, inside := false, false
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if line[0] != ' ' && line[0] != '\t' && line[0] != '#' {
			inside = words[0] == "backend" && len(words) > 1 && words[1] == backend
			found = found || inside
		}
		if !inside || words[0] != "server" || len(words) < 3 {
			continue
		}
		s := Server{Name: words[1], Addr: words[2], Weight: 1, Up: !slices.Contains(words, "disabled")}
		if i := slices.Index(words, "weight"); i > 0 && i+1 < len(words) {
			if s.Weight, err = strconv.Atoi(words[i+1]); err != nil {
				return nil, fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
			}
		}
		servers = append(servers, s)
	}
	if !found {
		return nil, errors.New("it is not there")
	}
	return servers, nil
}

// OldWorkers is how many workers of before a reload still live, by HAProxy's
// master.
func (b *Balancer) OldWorkers(ctx context.Context) (count int, err error) {
	out, err := b.master(ctx, "show proc")
	if err != nil {
		return 0, err
	}
	old := false
	for line := range strings.Lines(out) {
		switch fields := strings.Fields(line); {
		case strings.HasPrefix(line, "# "):
			old = strings.TrimSpace(line) == "# old workers"
		case old && len(fields) > 2 && fields[1] == "worker":
			count++
		}
	}
	return count, nil
}

// Reloads is how often HAProxy was asked to reload since it was started, by whomever and
// with whatever result, by its master.
func (b *Balancer) Reloads(ctx context.Context) (int, error) {
	out, err := b.master(ctx, "show proc")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == "master" {
			return strconv.Atoi(fields[2])
		}
	}
	return 0, fmt.Errorf("lab: show proc without a master: %q", out)
}

// ReloadHAProxy reloads it over its master socket, behind the sidecar's back.
// An answer that breaks off is as good: HAProxy before 2.7 gives none.
func (b *Balancer) ReloadHAProxy(ctx context.Context) error {
	_, err := b.master(ctx, "reload")
	return err
}

// masterLimit is how long the master may not answer. On each reload it executes
// itself again, and its socket refuses connections or cuts answers off meanwhile.
const masterLimit = 10 * time.Second

// master sends one line to the master socket, and sends it again while the master
// restarts. A reload is sent again only if the master did not get it.
func (b *Balancer) master(ctx context.Context, line string) (out string, err error) {
	err = Until(ctx, masterLimit, b.Name+"'s master answers", func() error {
		out, err = b.masterOnce(ctx, line)
		return err
	})
	return out, err
}

func (b *Balancer) masterOnce(ctx context.Context, line string) (string, error) {
	reply, err := Ask(ctx, b.Master(), line, true, masterLimit)
	op, isOp := errors.AsType[*net.OpError](err)
	isSent := err == nil || isOp && op.Op == "read"
	switch {
	case line == "reload" && strings.Contains(reply, "Another reload is still in progress"): // 3.1 and newer
		return "", errors.New(strings.TrimSpace(reply))
	case line == "reload" && isSent:
		return reply, nil
	case err == nil && !strings.HasSuffix(reply, "\n\n"):
		err = fmt.Errorf("the answer is cut off: %q", reply)
	}
	return reply, err
}
