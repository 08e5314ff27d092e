package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// SetDrain puts a server in drain for an operator, or ends that, and gives the
// instance's own name for its server. isKnown is false for a service that this load
// balancer does not route, and for a server that the service does not have.
type SetDrain func(ctx context.Context, service, server string, on bool) (name string, isKnown bool, err error)

// operatorDrain answers /api/v1/server/{service}/{server}/drain and …/ready, to those
// who may release the guard.
func operatorDrain(name string, byToken bool, set SetDrain) action {
	return func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.PathValue("rest"), "/")
		if len(parts) != 3 || !isName(parts[0]) || !isName(parts[1]) || parts[2] != "drain" && parts[2] != "ready" {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/server/{service}/{server}/drain or …/ready"})
			return
		}
		act(w, r, byToken, http.StatusNotFound, func(ctx context.Context) (any, bool, error) {
			on := parts[2] == "drain"
			server, isKnown, err := set(ctx, parts[0], parts[1], on)
			return sidecarapi.OperatorDrain{LoadBalancer: name, Service: parts[0], Server: server, Drain: on}, !isKnown, err
		})
	}
}
