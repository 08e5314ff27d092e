package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
)

// A start beside a HAProxy that does not run keeps servers that Consul has lost, by the
// guard: what `plan --diff` shows must be what run writes.
func TestObserveOnce_HAProxyStopped_FileSaysWhoTookTraffic(t *testing.T) {
	dir := t.TempDir()
	cfg := loaded(t, "services: [{name: api, bind: ':80'}]\nhaproxy: {health: {bind: ':8404'}, socket: "+dir+"/none.sock, config: "+dir+"/haproxy.cfg}")
	var servers []plan.FileServer
	addresses := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80"), netip.MustParseAddrPort("192.0.2.3:80")}
	for i, a := range addresses {
		servers = append(servers, plan.FileServer{Name: fmt.Sprintf("api-%d", i), Addr: a, Weight: 1})
	}
	before := fileOf(t, cfg, []plan.FileBackend{{Service: "api", Backend: "api", Servers: servers, Known: true}})
	if err := os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := ObserveOnce(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRenderer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	snap := catalog.NewSnapshot(catalog.Service{Name: "api", Known: true}) // Consul has lost all
	p := plan.Compute(plan.Desired{Marker: r.Marker(), Services: Policy(cfg, r), Rotation: true}, o, snap)
	var got []netip.AddrPort
	for _, f := range plan.ServersIn(fileOf(t, cfg, p.File))["api"] {
		got = append(got, f.Addr)
	}
	if diff := cmp.Diff(got, addresses, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("servers that take traffic (-got +want):\n%s", diff)
	}
}
