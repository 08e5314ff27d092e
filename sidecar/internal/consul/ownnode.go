package consul

import (
	"cmp"
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
	lastZone         string // "" is none, or not known
}

// is reports whether a node is the own one, and else why not. asked is the datacenter that
// was named in the query for it; "" is the agent's. An error is that the agent could not
// say.
func (o *ownNode) is(ctx context.Context, name, datacenter, asked string, isHere func(netip.Addr) bool) (is bool, why string, err error) {
	if !o.client.endpoint.isOn(isHere) {
		return false, "Consul's agent is on another machine", nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	datacenter = cmp.Or(datacenter, asked)
	if !o.matches(name, datacenter, asked) && time.Since(o.asked) >= ownNodeAgain {
		if err := o.ask(ctx); err != nil {
			return false, "", fmt.Errorf("ask %s for its node: %w", o.client.endpoint, err)
		}
		o.asked = time.Now()
	}
	switch {
	case o.matches(name, datacenter, asked):
		return true, "", nil
	case o.name == "":
		return false, o.why, nil
	case o.name == name && o.datacenter == "":
		return false, "the datacenter of Consul's agent is unknown, because the token lacks agent:read and node:read", nil
	case o.name == name:
		return false, fmt.Sprintf("that is in datacenter %.100q", o.datacenter), nil
	}
	return false, fmt.Sprintf("that is %.100q", o.name), nil
}

// matches does not go by the name alone where a datacenter was named: a node of another one
// may have the same.
func (o *ownNode) matches(name, datacenter, asked string) bool {
	if o.name == "" || o.name != name {
		return false
	}
	if o.datacenter == "" {
		return asked == ""
	}
	return datacenter == "" || o.datacenter == datacenter
}

// ask asks the agent who it is. That needs the right agent:read; without it,
// any check of the agent tells its node, and the catalog the datacenter of that.
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
		name := ""
		for _, c := range checks {
			name = c.Node
			break
		}
		datacenter, err := datacenterOf(client, name, query)
		if err != nil {
			return err
		}
		o.name, o.datacenter, o.why = name, datacenter, "node name unknown, because the token lacks agent:read"
		return nil
	}
	if err != nil {
		return err
	}
	o.name, o.datacenter, o.why = self.Config.NodeName, self.Config.Datacenter, "Consul's agent did not return its node name"
	return nil
}

// datacenterOf returns the agent's own datacenter by one of its nodes; "" if the catalog does
// not say.
func datacenterOf(client *api.Client, node string, query *api.QueryOptions) (string, error) {
	if node == "" {
		return "", nil
	}
	found, _, err := client.Catalog().Node(node, query)
	refused, ok := errors.AsType[api.StatusError](err)
	switch {
	case ok && (refused.Code == http.StatusForbidden || refused.Code == http.StatusNotFound):
		return "", nil
	case err != nil:
		return "", err
	case found == nil || found.Node == nil:
		return "", nil
	}
	return found.Node.Datacenter, nil
}

// isOn reports whether the agent is on the machine that has these addresses.
func (e endpoint) isOn(isHere func(netip.Addr) bool) bool {
	addr, err := netip.ParseAddr(e.base.Hostname())
	return e.isNear() || err == nil && isHere(addr.Unmap())
}
