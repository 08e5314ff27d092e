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

// zone returns the zone of the agent's node, "" if it has none. Without the right
// agent:read, the catalog tells it. With an error it is the last one that was known, "" if
// none was.
func (o *ownNode) zone(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ownNodeTimeout)
	defer cancel()
	zone, err := o.askZone(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		return o.lastZone, fmt.Errorf("ask %s for the zone of its node: %w", o.client.endpoint, err)
	}
	o.lastZone = zone
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
		switch {
		case err != nil:
			return "", err
		case node == nil || node.Node == nil:
			return "", fmt.Errorf("the catalog does not have node %.100q, or the token lacks node:read", c.Node)
		}
		return node.Node.Meta[zoneKey], nil
	}
	return "", errors.New("the token lacks agent:read, and the agent has no check that names its node")
}

// findZone asks for the zone of this load balancer, and reports whether it is another one.
// What was decoded by another one is decoded again. An error makes nothing unknown: with too
// few rights it would stay.
func (w *watch) findZone(ctx context.Context) (isNew bool) {
	zone, err := w.source.own.zone(ctx)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil && !w.isZoneUnknown:
		w.log.Warn("zone of the agent's node unknown, keeping last known zone", "zone", zone, "error", err)
	case err == nil && zone == "" && !w.zoneless:
		w.log.Warn("prefer_zone has no effect, the agent's node has no meta key zone")
	}
	w.isZoneUnknown, w.zoneless = err != nil, err == nil && zone == ""
	d := w.decoder
	if zone == d.zone {
		return false
	}
	w.decoder = newDecoder(d.tags)
	w.decoder.claims, w.decoder.zone = d.claims, zone
	return true
}
