package consul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// Reader asks about a service once at a time, and the leader, and gives more
// than a Source does: what each check says. It is for commands that run once.
type Reader struct {
	client     *client
	own        *ownNode
	datacenter string // that is named in queries; "" is none
}

// NewReader checks the options and reads the TLS files. It asks nothing yet.
func NewReader(o Options) (*Reader, error) {
	c, o, err := newClient(o)
	if err != nil {
		return nil, err
	}
	return &Reader{client: c, own: &ownNode{client: c}, datacenter: o.Datacenter}, nil
}

// Close lets the connections go.
func (r *Reader) Close() { r.client.close() }

// Report is one answer about a service: all of its entries, also those that no
// load balancer would take.
type Report struct {
	Index   uint64
	Entries []ReportEntry
}

// ReportEntry is one registration. Everything in it but Address may be anything
// that a client has registered.
type ReportEntry struct {
	ID, Node  string
	Address   string // host:port, of a literal address; "" if it has none that can be used
	Meta      contract.Meta
	Sidecar   contract.Sidecar // if it is one
	NoSidecar error            // why it is none
	Health    catalog.Health
	Rejected  error // why load balancers leave it out; nil if they don't
	Checks    []ReportCheck
}

// ReportCheck is one check of an instance or of its node.
type ReportCheck struct{ Name, Status, Output string }

// reportEntry is entry with what people want to know of its checks.
type reportEntry struct {
	entry
	Checks []struct {
		check
		Name, Output string
	}
}

// Service asks about one service.
func (r *Reader) Service(ctx context.Context, name string) (Report, error) {
	return r.service(ctx, name, admission{})
}

// Judged asks about one service, and takes an address only by the rules by which a
// Source does: a loopback address only from the node of the agent on this machine.
func (r *Reader) Judged(ctx context.Context, name string, rules Addresses) (Report, error) {
	var unknown error
	isHere := here()
	report, err := r.service(ctx, name, admission{Addresses: rules, isHere: isHere, isOwnNode: func(node, datacenter string) (bool, string) {
		is, why, err := r.own.is(ctx, node, datacenter, r.datacenter, isHere)
		unknown = errors.Join(unknown, err)
		return is, why
	}})
	return report, errors.Join(err, unknown)
}

func (r *Reader) service(ctx context.Context, name string, admits admission) (Report, error) {
	s := &Service{Name: name}
	if _, err := checkServices([]Service{*s}); err != nil {
		return Report{}, err
	}
	var entries []reportEntry
	// Of the leader, which is asked to confirm that it is one.
	m, err := r.client.get(ctx, s.query(), cursor{consistent: true}, func(body io.Reader) (err error) {
		entries, err = decodeList[reportEntry](body, maxBody)
		return err
	})
	if err == nil {
		// The same rules as for a Source: what may not be used is an error here.
		_, usable, wrong := cursor{consistent: true}.next(m, 0)
		if err = wrong; err == nil && !usable {
			err = errNoLeader
		}
	}
	if err != nil {
		return Report{}, fmt.Errorf("consul: service %q: %w", name, err)
	}
	return report(m.index, entries, admits), nil
}

func report(index uint64, entries []reportEntry, admits admission) Report {
	plain := make([]entry, 0, len(entries))
	for _, e := range entries {
		plain = append(plain, e.plain())
	}
	rejected := map[[2]string]error{}
	for _, r := range list(registrations(plain), admits).rejected {
		rejected[[2]string{r.ID, r.Node}] = r.Err
	}
	out := Report{Index: index}
	for i, e := range entries {
		one := ReportEntry{
			ID: e.Service.ID, Node: e.Node.Node,
			Health: aggregate(plain[i].Checks), Rejected: rejected[[2]string{e.Service.ID, e.Node.Node}],
		}
		if at, err := address(plain[i], admits); err == nil {
			one.Address = net.JoinHostPort(at.Addr().String(), strconv.Itoa(int(at.Port())))
		}
		one.Meta, _ = contract.Parse(e.Service.Meta) // its errors are in Rejected, or do no harm
		one.Sidecar, one.NoSidecar = contract.ParseSidecar(e.Service.Meta)
		for _, c := range e.Checks {
			one.Checks = append(one.Checks, ReportCheck{Name: c.Name, Status: c.Status, Output: c.Output})
		}
		out.Entries = append(out.Entries, one)
	}
	return out
}

func (e reportEntry) plain() entry {
	p := e.entry
	p.Checks = nil
	for _, c := range e.Checks {
		p.Checks = append(p.Checks, c.check)
	}
	return p
}
