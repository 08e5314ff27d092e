package daemon

import (
	"math"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestConnections_OfFewFiles_LeaveRoom(t *testing.T) {
	for _, c := range []struct {
		files            uint64
		services         int
		most, perAddress int
	}{
		{math.MaxUint64, 1, 8192, 1024},
		{524288, 1000, 8192, 1024},
		{1024, 1, 892, 446},
		{1024, 100, 496, 248},
		{1024, 1000, 16, 8},
		{64, 1, 16, 8},
		{0, 0, 16, 8},
	} {
		cfg := config.Config{Services: make([]config.Service, c.services)}
		cfg.API.MaxConnections, cfg.API.MaxPerAddress = 8192, 1024
		most, perAddress := connections(cfg, c.files)
		if most != c.most || perAddress != c.perAddress {
			t.Errorf("%d files, %d services: got %d and %d, want %d and %d", c.files, c.services, most, perAddress, c.most, c.perAddress)
		}
	}
}
