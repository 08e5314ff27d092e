package haproxy

import (
	"context"
	"strings"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// markerFrom reads the reply to `show env POINTSMAN_MARK`. A worker without
// the variable answers "Variable not found".
func markerFrom(reply string) plan.Marker {
	value, found := strings.CutPrefix(strings.TrimSpace(reply), plan.MarkerVariable+"=")
	if !found {
		return plan.Marker{}
	}
	m, _ := plan.ParseMarker(value)
	return m
}

// Owner asks the current worker which sidecar writes its configuration. The zero Owner
// is that of one that does not say.
func (c *Client) Owner(ctx context.Context) (plan.Owner, error) {
	reply, err := c.ask(ctx, []string{"show env " + plan.OwnerVariable})
	if err != nil {
		return plan.Owner{}, err
	}
	value, _ := strings.CutPrefix(strings.TrimSpace(reply), plan.OwnerVariable+"=")
	return plan.ParseOwner(value), nil
}
