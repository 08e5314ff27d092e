package api

import (
	"cmp"
	"context"
	"net/http"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
)

// RequestReload makes a reload of HAProxy due for one who is named, and does not wait for
// it. isRefused is true where there is no HAProxy to reload.
type RequestReload func(ctx context.Context, by string) (is sidecarapi.ReloadRequest, isRefused bool, err error)

// maxBy bounds the name of one who asks for an action, in bytes.
const maxBy = 100

// reload answers /api/v1/reload, to those who may release the guard.
func reload(name string, byToken bool, request RequestReload) action {
	return func(w http.ResponseWriter, r *http.Request) {
		by := r.URL.Query().Get("by")
		if len(by) > maxBy {
			writeJSON(w, http.StatusBadRequest, problem{"by: longer than 100 bytes"})
			return
		}
		act(w, r, byToken, http.StatusConflict, func(ctx context.Context) (any, bool, error) {
			is, isRefused, err := request(ctx, cmp.Or(by, "API of "+name))
			is.LoadBalancer = name
			return is, isRefused, err
		})
	}
}
