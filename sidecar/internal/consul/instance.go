package consul

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/pointsman/pointsman/registrator/contract"
	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// errTwin refuses both of two entries with one ID on one node. Consul's catalog
// cannot hold them, so nothing says which of the two is right.
var errTwin = errors.New("service ID registered more than once on the node")

// instance reads one entry, whose server is to have that name. The remark is on what
// is optional and was passed over.
func instance(e entry, server string, admits admission) (inst catalog.Instance, remark, err error) {
	if e.Service.ID == "" {
		return inst, nil, errors.New("the service ID is empty")
	}
	if !e.isPlain() {
		return inst, nil, fmt.Errorf("service kind %.50q is not an instance", e.Service.Kind)
	}
	addr, err := address(e, admits)
	if err != nil {
		return inst, nil, err
	}
	said, remark, err := readMeta(e.Service.Meta)
	if err != nil {
		return inst, nil, err
	}
	if err := checkAgentPort(addr.Addr(), said.AgentPort, e.Node.Node, e.Node.Datacenter, admits); err != nil {
		remark, said.AgentPort = errors.Join(remark, err), 0
	}
	health := aggregate(e.Checks)
	return catalog.Instance{
		ID:      e.Service.ID,
		Node:    e.Node.Node,
		Server:  server,
		Addr:    addr,
		Health:  health,
		Weight:  e.Service.Weights.weight(health),
		Version: said.Version,
		Backup:  said.Backup || e.isBackup,
		MaxConn: said.MaxConn,
		Leaving: said.Leaving,

		AgentPort: said.AgentPort,
	}, remark, nil
}

// errAgentPort is in the remark on an agent port that the rules refuse.
var errAgentPort = errors.New("ignored")

// checkAgentPort refuses a port at which the rules admit no instance: HAProxy connects
// there again and again, and takes what it hears for the instance's word.
func checkAgentPort(addr netip.Addr, port int, node, datacenter string, admits admission) error {
	if port == 0 {
		return nil
	}
	err := admits.check(netip.AddrPortFrom(addr, uint16(port)), node, datacenter)
	if err != nil {
		bad := &contract.KeyError{Key: contract.KeyAgentPort, Value: strconv.Itoa(port), Want: "a port of the instance: " + err.Error()}
		err = fmt.Errorf("%w: %w", bad, errAgentPort)
	}
	return err
}

// readMeta reads the contract's meta. What cannot be read is taken on the side
// that does no harm:
//
//   - version is for people; without it the instance serves all the same;
//   - maxconn: no limit, as for an instance that never named one, since a typo
//     should not take capacity away;
//   - backup: it is one. The owner who wrote the key did not want a share of the
//     normal traffic there, and as a backup it still serves when nothing else does;
//   - pointsman-agent-port: no agent is asked;
//   - pointsman-drain: the instance is left out. Someone has begun to take it
//     away, and an instance left out is drained like one that leaves.
func readMeta(keys map[string]string) (m contract.Meta, remark, err error) {
	m, all := contract.Parse(keys)
	for _, bad := range keyErrors(all) {
		switch bad.Key {
		case contract.KeyDrain:
			return contract.Meta{}, nil, fmt.Errorf("%w: treated as leaving", bad)
		case contract.KeyBackup:
			m.Backup = true
			remark = errors.Join(remark, fmt.Errorf("%w: treated as a backup", bad))
		case contract.KeyMaxConn:
			remark = errors.Join(remark, fmt.Errorf("%w: treated as unlimited", bad))
		default:
			remark = errors.Join(remark, fmt.Errorf("%w: ignored", bad))
		}
	}
	return m, remark, nil
}

func keyErrors(err error) []*contract.KeyError {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return nil
	}
	var out []*contract.KeyError
	for _, one := range joined.Unwrap() {
		if bad, ok := errors.AsType[*contract.KeyError](one); ok {
			out = append(out, bad)
		}
	}
	return out
}

// address is where the instance listens: the service's own address, else its
// node's. Only a literal address that a server can have is taken. A host name
// is looked up here, where the service allows that: HAProxy cannot resolve it for a
// server that is added at runtime (haproxy/haproxy#2523).
func address(e entry, admits admission) (netip.AddrPort, error) {
	field, text := "service address", e.Service.Address
	if text == "" {
		field, text = "node address", e.Node.Address
	}
	addr, err := parseAddress(text)
	if field == "service address" && isHostName(text) {
		if admits.resolve == nil {
			return netip.AddrPort{}, fmt.Errorf("service address %.100q: a host name; set resolve: true to have it looked up", text)
		}
		if addr, err = admits.resolve(text); err != nil {
			return netip.AddrPort{}, fmt.Errorf("service address %.100q: %w", text, err)
		}
	}
	switch {
	case text == "":
		return netip.AddrPort{}, errors.New("neither the service nor its node has an address")
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("%s %.100q: not an IP address", field, text)
	case addr.Zone() != "":
		return netip.AddrPort{}, fmt.Errorf("%s %.100q: an address with a zone is valid on its own machine only", field, text)
	}
	at, err := withPort(addr, e.Service.Port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if err := admits.check(at, e.Node.Node, e.Node.Datacenter); err != nil {
		return netip.AddrPort{}, refusedAddress(field, text, at.Port(), err)
	}
	return at, nil
}

func withPort(addr netip.Addr, port int) (netip.AddrPort, error) {
	if port < 1 || port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("port %d: want 1 to 65535", port)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// refusedAddress is why the rules do not admit an address.
func refusedAddress(field, text string, port uint16, why error) error {
	return fmt.Errorf("%s %q, port %d: %w", field, text, port, why)
}

// lost reports whether an instance of before is not in after. Both are sorted by
// Server.
func lost(before, after []catalog.Instance) bool {
	n := 0
	for i := range before {
		for n < len(after) && after[n].Server < before[i].Server {
			n++
		}
		if n == len(after) || after[n].Server != before[i].Server {
			return true
		}
	}
	return false
}
