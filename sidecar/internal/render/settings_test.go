package render_test

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/render"
)

func TestOptions(t *testing.T) {
	check := render.Check{
		Enabled: true, Inter: 2 * time.Second, FastInter: 1500 * time.Millisecond, DownInter: time.Minute, Rise: 2, Fall: 3,
	}
	const words = "check inter 2s fastinter 1500ms downinter 60s rise 2 fall 3"
	for _, c := range []struct {
		name string
		s    render.Service
		want string
	}{
		{"http", render.Service{Mode: "http", Check: check}, words + " pool-purge-delay 1s"},
		{"tcp keeps no connections", render.Service{Mode: "tcp", Check: check}, words},
		{"not checked", render.Service{Mode: "http"}, "pool-purge-delay 1s"},
		{"the operator's words come last", render.Service{Mode: "tcp", Check: check, ServerOptions: "send-proxy"}, words + " send-proxy"},
		{"nothing", render.Service{Mode: "tcp"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.s.Options(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
