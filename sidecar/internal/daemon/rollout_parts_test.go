package daemon

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestFixedWeights_EachAlgorithm_SaysWhy(t *testing.T) {
	for balance, isFixed := range map[string]bool{"roundrobin": false, "leastconn": false, "random(2)": false, "first": true, "source": true, "hdr(host)": true, "static-rr": true} {
		if got := fixedWeights(config.Service{Balance: balance}); (got != "") != isFixed || isFixed && !strings.Contains(got, balance) {
			t.Errorf("%s: %q", balance, got)
		}
	}
	consistent := config.Service{Balance: "source", BackendExtra: []string{"hash-type consistent"}}
	if got := fixedWeights(consistent); got != "" {
		t.Errorf("a consistent hash: %q", got)
	}
}
