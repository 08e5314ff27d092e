package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Consul is a dev agent: a server, an agent and the UI in one, that forgets
// all when it ends.
type Consul struct {
	*Process
	lab                *Lab
	HTTPPort, serfPort int
	serverPort         int
	Client             *api.Client

	// Flags are further ones of its command line, for the next Restart.
	Flags []string
}

// StartConsul starts Consul and waits until it has a leader. port 0 takes a
// free one.
func (l *Lab) StartConsul(ctx context.Context, port int) (*Consul, error) {
	c, err := l.NewConsul(port)
	if err != nil {
		return nil, err
	}
	return c, c.Restart(ctx)
}

// StartDatacenters starts a Consul for each datacenter, and waits until each one's answers
// about the others.
func (l *Lab) StartDatacenters(ctx context.Context, names ...string) ([]*Consul, error) {
	all := make([]*Consul, len(names))
	var join []string
	for i, name := range names {
		c, err := l.NewConsul(0)
		if err != nil {
			return nil, err
		}
		wan, err := l.Port()
		if err != nil {
			return nil, err
		}
		c.Flags = slices.Concat([]string{"-datacenter=" + name, "-serf-wan-port=" + strconv.Itoa(wan)}, join)
		join = append(join, "-retry-join-wan="+local(wan))
		if err := c.Restart(ctx); err != nil {
			return nil, err
		}
		all[i] = c
	}
	return all, Until(ctx, 30*time.Second, "the datacenters reach each other", func() error {
		for _, c := range all {
			for _, name := range names {
				if _, _, err := c.Client.Catalog().Node(ConsulNode, (&api.QueryOptions{Datacenter: name}).WithContext(ctx)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// NewConsul prepares a Consul; Restart starts it. port 0 takes a free one.
func (l *Lab) NewConsul(port int) (*Consul, error) {
	c := &Consul{lab: l, HTTPPort: port}
	if err := l.portsFor(&c.HTTPPort, &c.serfPort, &c.serverPort); err != nil {
		return nil, err
	}
	var err error
	if c.Client, err = api.NewClient(&api.Config{Address: c.Address(), Scheme: "http"}); err != nil {
		return nil, fmt.Errorf("lab: consul: %w", err)
	}
	return c, nil
}

// ConsulNode is Consul's name for the machine.
const ConsulNode = "lab"

// Restart starts it again at the same address, with no memory. It must have
// ended.
func (c *Consul) Restart(ctx context.Context) error {
	flags, err := WithoutGRPCTLS(ctx, c.lab.programs.Consul)
	if err != nil {
		return err
	}
	c.Process, err = c.lab.Start("consul", c.lab.programs.Consul, append([]string{
		"agent", "-dev",
		"-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn", "-node=" + ConsulNode, "-hcl=disable_update_check = true",
		"-http-port=" + strconv.Itoa(c.HTTPPort), "-server-port=" + strconv.Itoa(c.serverPort),
		"-serf-lan-port=" + strconv.Itoa(c.serfPort), "-serf-wan-port=-1", "-dns-port=-1", "-grpc-port=-1",
	}, slices.Concat(flags, c.Flags)...)...)
	if err != nil {
		return err
	}
	return Until(ctx, time.Minute, "consul has a leader", func() error {
		if !c.Running() {
			return fmt.Errorf("it has ended:\n%s", c.Tail(10))
		}
		err := c.HasLeader(ctx)
		if isHidden := func(flag string) bool { return strings.Contains(flag, `default_policy = "deny"`) }; err != nil || slices.ContainsFunc(c.Flags, isHidden) {
			return err
		}
		// From then on what is registered shows at once, and there can be sessions.
		checks, _, err := c.Client.Health().Node(ConsulNode, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && !slices.ContainsFunc(checks, func(h *api.HealthCheck) bool { return h.CheckID == "serfHealth" }) {
			err = errors.New("its own node has no check in the catalog")
		}
		return err
	})
}

// HasLeader returns nil if it answers and has a leader.
func (c *Consul) HasLeader(ctx context.Context) error {
	leader, err := c.Client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err == nil && leader == "" {
		err = errors.New("it has no leader")
	}
	return err
}

// lists waits until Consul lists an instance of a service, the one that is meant, with this
// health; "" is not at all.
func (c *Consul) lists(ctx context.Context, limit time.Duration, name, service, health string, isIt func(*api.AgentService) bool) error {
	return Until(ctx, limit, fmt.Sprintf("Consul has %s %q", name, health), func() error {
		entries, _, err := c.Client.Health().Service(service, "", false, (&api.QueryOptions{}).WithContext(ctx))
		got := ""
		for _, e := range entries {
			if isIt(e.Service) {
				got = e.Checks.AggregatedStatus()
			}
		}
		if err == nil && got != health {
			err = fmt.Errorf("it has %q", got)
		}
		return err
	})
}

// Address is where its HTTP API is.
func (c *Consul) Address() string { return local(c.HTTPPort) }

// URL is where its UI is.
func (c *Consul) URL() string { return "http://" + c.Address() + "/ui/" }
