package consul_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

// fakeDNS is what host names stand for.
type fakeDNS struct {
	mu    sync.Mutex
	addrs []string
	err   error
	asked chan struct{} // has one to take for each lookup that begins while it is waited for
}

func (d *fakeDNS) says(err error, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs, d.err = addrs, err
}

func (d *fakeDNS) lookup(_ context.Context, host string) (out []netip.Addr, err error) {
	select {
	case d.asked <- struct{}{}:
	default:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if host != "db.example.com" {
		return nil, errors.New("no such host")
	}
	for _, a := range d.addrs {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, d.err
}

// An external service is registered with a host's name. Its server follows the name,
// and keeps its address while DNS fails (issue 13, section 6).
func TestResolve_HostName_ServerFollowsIt(t *testing.T) {
	dns := &fakeDNS{asked: make(chan struct{})}
	dns.says(nil, "10.0.0.9", "2001:db8::1", "10.0.0.7")
	f := consultest.NewFake(t)
	w := start(t, f.Address(), consul.Options{Lookup: dns.lookup, LookupInterval: 2 * time.Millisecond}, consul.Service{
		Name: "web", Resolve: true, Addresses: consul.Addresses{Deny: []netip.Prefix{netip.MustParsePrefix("10.66.0.0/16")}},
	})
	w.register("literal")
	w.await("one", are("literal=passing"))
	host := func(name string) func(*api.AgentServiceRegistration) {
		return func(r *api.AgentServiceRegistration) { r.Address = name }
	}
	w.register("db", host("db.example.com"))
	at := func(want string) func(catalog.Snapshot) bool {
		return func(s catalog.Snapshot) bool {
			for _, i := range s.Service("web").Instances {
				if i.ID == "db" {
					return i.Addr.Addr().String() == want && len(s.Service("web").Instances) == 2
				}
			}
			return false
		}
	}
	w.await("the lowest address", at("10.0.0.7"))
	dns.says(nil, "10.0.0.1", "10.0.0.7")
	stays := func(what, want string) {
		t.Helper()
		// The second lookup begins after what the first one brought is published.
		for range 2 {
			<-dns.asked
		}
		if s := w.Snapshot(); !at(want)(s) {
			t.Fatalf("%s: got %+v, want %s to stay", what, s.Service("web"), want)
		}
	}
	stays("a lower address beside its own", "10.0.0.7")
	dns.says(errors.New("server misbehaving"))
	stays("DNS fails", "10.0.0.7")
	if h := w.Health("web"); h.Err != nil {
		t.Errorf("DNS fails: Consul's health has %v", h.Err)
	}
	dns.says(nil, "10.0.0.8")
	w.await("the new address", at("10.0.0.8"))
	dns.says(nil, "10.66.0.1")
	w.await("an address that is denied is left out", func(s catalog.Snapshot) bool {
		return are("literal=passing")(s) && len(s.Service("web").Rejected) == 1
	})
	w.register("other", host("nothing.example.com"))
	w.await("a name that stands for nothing is left out", func(s catalog.Snapshot) bool {
		return are("literal=passing")(s) && len(s.Service("web").Rejected) == 2
	})

	dns.says(nil, "10.0.0.8")
	again := start(t, f.Address(), consul.Options{Lookup: dns.lookup}, consul.Service{Name: "web", Resolve: true})
	again.await("the first answer has the address", func(s catalog.Snapshot) bool { return s.Service("web").Known })
	if s := again.Snapshot(); !at("10.0.0.8")(s) {
		t.Errorf("the first answer: got %+v, want db in it", s.Service("web"))
	}
}
