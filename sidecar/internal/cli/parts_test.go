package cli

import (
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestServicesThatHAProxyCannotAddServersToUseSlots(t *testing.T) {
	for balance, want := range map[string]bool{
		"roundrobin": false, "leastconn": false, "first": false, "random": false, "random(2)": false,
		"static-rr": true, "source": true, "uri whole": true, "hdr(X-User)": true, "hash req.cook(id)": true,
	} {
		got := policy(config.Config{Services: []config.Service{{Name: "api", Balance: balance}}})
		if got[0].ForceSlots != want {
			t.Errorf("balance %s: slots forced: got %v, want %v", balance, got[0].ForceSlots, want)
		}
	}
	consistent := config.Service{Name: "api", Balance: "source", BackendExtra: []string{"hash-type consistent sdbm"}}
	if got := policy(config.Config{Services: []config.Service{consistent}}); got[0].ForceSlots {
		t.Error("a consistent hash takes servers at runtime: got slots forced")
	}
}
