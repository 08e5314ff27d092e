package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// ownNodeAgain is how long an answer about the agent's node is good for a
	// node that is another: the agent may be started again under a new name.
	ownNodeAgain = 10 * time.Second
	// ownNodeTimeout bounds one question.
	ownNodeTimeout = 5 * time.Second
)

// ownNode knows the Consul node of the agent that is asked, if that agent is on
// this machine: only its loopback addresses are this machine's.
type ownNode struct {
	client *client

	mu               sync.Mutex
	name, datacenter string // "" is not known
	why              string // it is not
	asked            time.Time
}

// is reports whether a node is the own one, and else why not. An error is that
// the agent could not say.
func (o *ownNode) is(ctx context.Context, name, datacenter string, isHere func(netip.Addr) bool) (is bool, why string, err error) {
	if !o.client.endpoint.isOn(isHere) {
		return false, "Consul's agent is on another machine", nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.matches(name, datacenter) && time.Since(o.asked) >= ownNodeAgain {
		if err := o.ask(ctx); err != nil {
			return false, "", fmt.Errorf("ask %s for its node: %w", o.client.endpoint, err)
		}
		o.asked = time.Now()
	}
	switch {
	case o.matches(name, datacenter):
		return true, "", nil
	case o.name == "":
		return false, o.why, nil
	}
	return false, fmt.Sprintf("that is %.100q", o.name), nil
}

func (o *ownNode) matches(name, datacenter string) bool {
	return o.name != "" && o.name == name && (datacenter == "" || o.datacenter == "" || o.datacenter == datacenter)
}

// ask asks the agent who it is. That needs the right agent:read; without it,
// any check of the agent tells its node.
func (o *ownNode) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ownNodeTimeout)
	defer cancel()
	client, err := api.NewClient(o.client.api(Options{}))
	if err != nil {
		return err
	}
	query := (&api.QueryOptions{}).WithContext(ctx)
	var self struct {
		Config struct{ NodeName, Datacenter string }
	}
	_, err = client.Raw().Query("/v1/agent/self", &self, query)
	if refused, ok := errors.AsType[api.StatusError](err); ok && refused.Code == http.StatusForbidden {
		checks, err := client.Agent().ChecksWithFilterOpts("", query)
		if err != nil {
			return err
		}
		o.name, o.datacenter, o.why = "", "", "node name unknown, because the token lacks agent:read"
		for _, c := range checks {
			o.name = c.Node
			break
		}
		return nil
	}
	if err != nil {
		return err
	}
	o.name, o.datacenter, o.why = self.Config.NodeName, self.Config.Datacenter, "Consul's agent did not return its node name"
	return nil
}

// isOn reports whether the agent is on the machine that has these addresses.
func (e endpoint) isOn(isHere func(netip.Addr) bool) bool {
	addr, err := netip.ParseAddr(e.base.Hostname())
	return e.isNear() || err == nil && isHere(addr.Unmap())
}
