package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// zoneKey is the key of a node's meta that names its zone. An entry is decoded with no
// other key of that meta: see entry.
const zoneKey = "zone"

// zone gives the zone of the agent's node, "" if it has none. Without the right
// agent:read, the catalog tells it.
func (o *ownNode) zone(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ownNodeTimeout)
	defer cancel()
	zone, err := o.askZone(ctx)
	if err != nil {
		return "", fmt.Errorf("ask %s for the zone of its node: %w", o.client.endpoint, err)
	}
	return zone, nil
}

func (o *ownNode) askZone(ctx context.Context) (string, error) {
	client, err := api.NewClient(o.client.api(Options{}))
	if err != nil {
		return "", err
	}
	query := (&api.QueryOptions{}).WithContext(ctx)
	var self struct{ Meta map[string]string }
	_, err = client.Raw().Query("/v1/agent/self", &self, query)
	if refused, ok := errors.AsType[api.StatusError](err); !ok || refused.Code != http.StatusForbidden {
		return self.Meta[zoneKey], err
	}
	checks, err := client.Agent().ChecksWithFilterOpts("", query)
	if err != nil {
		return "", err
	}
	for _, c := range checks {
		node, _, err := client.Catalog().Node(c.Node, query)
		if err != nil || node == nil {
			return "", err
		}
		return node.Node.Meta[zoneKey], nil
	}
	return "", errors.New("the token lacks agent:read, and the agent has no check that names its node")
}

// findZone asks for the zone of this load balancer. What was decoded by another one is
// decoded again.
func (w *watch) findZone(ctx context.Context) error {
	zone, err := w.source.own.zone(ctx)
	if err != nil {
		return err
	}
	if zone == "" && !w.zoneless {
		w.log.Warn("prefer_zone has no effect, the agent's node has no meta key zone")
	}
	w.zoneless = zone == ""
	if d := w.decoder; zone != d.zone {
		w.decoder = newDecoder(d.tags)
		w.decoder.claims, w.decoder.zone = d.claims, zone
	}
	return nil
}
