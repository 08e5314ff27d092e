package snapshot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

// service and instance are the file's own form: catalog may change, and files
// stay.
type service struct {
	Name      string     `json:"name"`
	Answered  time.Time  `json:"answered"`
	Instances []instance `json:"instances"`
}

type instance struct {
	ID      string         `json:"id"`
	Node    string         `json:"node"`
	Server  string         `json:"server"`
	Addr    netip.AddrPort `json:"address"`
	Health  string         `json:"health"`
	Weight  int            `json:"weight"`
	Version string         `json:"version,omitempty"`
	Backup  bool           `json:"backup,omitempty"`
	MaxConn int            `json:"maxconn,omitempty"`
	Leaving time.Time      `json:"leaving,omitzero"`
}

var healths = []catalog.Health{catalog.Passing, catalog.Warning, catalog.Critical, catalog.Maintenance}

func format(saved []catalog.Saved) ([]byte, error) {
	services := make([]service, 0, len(saved))
	for _, s := range saved {
		out := service{Name: s.Service.Name, Answered: s.Answered, Instances: make([]instance, 0, len(s.Service.Instances))}
		for _, i := range s.Service.Instances {
			out.Instances = append(out.Instances, instance{
				ID: i.ID, Node: i.Node, Server: i.Server, Addr: i.Addr, Health: i.Health.String(), Weight: i.Weight,
				Version: i.Version, Backup: i.Backup, MaxConn: i.MaxConn, Leaving: i.Leaving,
			})
		}
		services = append(services, out)
	}
	body, err := json.Marshal(services)
	if err != nil {
		return nil, err
	}
	body = append(body, '\n')
	return append(head(body), body...), nil
}

func parse(content []byte) ([]catalog.Saved, error) {
	body, err := check(content)
	if err != nil {
		return nil, err
	}
	var services []service
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&services); err != nil {
		return nil, err
	}
	saved := make([]catalog.Saved, 0, len(services))
	for _, s := range services {
		one, err := s.catalog()
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", s.Name, err)
		}
		saved = append(saved, catalog.Saved{Service: one, Answered: s.Answered})
	}
	return saved, nil
}

func (s service) catalog() (catalog.Service, error) {
	out := catalog.Service{Name: s.Name, Known: true}
	for _, i := range s.Instances {
		one, err := i.catalog()
		if err != nil {
			return out, fmt.Errorf("instance %q on node %q: %w", i.ID, i.Node, err)
		}
		out.Instances = append(out.Instances, one)
	}
	slices.SortFunc(out.Instances, byServer)
	for n := 1; n < len(out.Instances); n++ {
		if byServer(out.Instances[n-1], out.Instances[n]) == 0 {
			return out, fmt.Errorf("two instances have the server name %q", out.Instances[n].Server)
		}
	}
	return out, nil
}

func byServer(a, b catalog.Instance) int { return cmp.Compare(a.Server, b.Server) }

// catalog checks all that may reach HAProxy: a checksum proves who wrote a
// file as little as Consul proves who registered.
func (i instance) catalog() (catalog.Instance, error) {
	health := slices.IndexFunc(healths, func(h catalog.Health) bool { return h.String() == i.Health })
	switch {
	case i.Server != catalog.ServerName(i.ID, "") && i.Server != catalog.ServerName(i.ID, i.Node):
		return catalog.Instance{}, fmt.Errorf("server name %q belongs to another instance", i.Server)
	case !i.Addr.IsValid() || i.Addr.Port() == 0 || i.Addr.Addr().Zone() != "":
		return catalog.Instance{}, fmt.Errorf("address %q: want an IP address and a port", i.Addr)
	case health < 0:
		return catalog.Instance{}, fmt.Errorf("health %q", i.Health)
	case i.Weight < 0 || i.Weight > 256:
		return catalog.Instance{}, fmt.Errorf("weight %d: want 0 to 256", i.Weight)
	case i.MaxConn < 0:
		return catalog.Instance{}, errors.New("maxconn is negative")
	}
	return catalog.Instance{
		ID: i.ID, Node: i.Node, Server: i.Server, Addr: i.Addr, Health: healths[health], Weight: i.Weight,
		Version: i.Version, Backup: i.Backup, MaxConn: i.MaxConn, Leaving: i.Leaving,
	}, nil
}
