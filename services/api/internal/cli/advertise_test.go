package cli

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestAddressThatOthersReachTheNodeAt(t *testing.T) {
	toConsul := func(_ context.Context, hostPort string) (netip.Addr, error) {
		if hostPort != "consul:8500" {
			return netip.Addr{}, errors.New("asked for the way to " + hostPort)
		}
		return netip.MustParseAddr("10.0.0.7"), nil
	}
	for _, c := range []struct {
		name, setting, listening, consul string
		address, health                  string
	}{
		{"the setting wins", "192.0.2.1", "[::]:4000", "consul:8500", "192.0.2.1", "http://192.0.2.1:4000/healthz"},
		{"the setting with a port", "192.0.2.1:80", "[::]:4000", "consul:8500", "192.0.2.1", "http://192.0.2.1:80/healthz"},
		{"IPv6", "2001:db8::1", "[::]:4000", "consul:8500", "2001:db8::1", "http://[2001:db8::1]:4000/healthz"},
		{"then the address that it listens on", "", "127.0.0.3:4001", "consul:8500", "127.0.0.3", "http://127.0.0.3:4001/healthz"},
		{"then the agent's, where it is on this machine", "", "[::]:4000", "127.0.0.1:8500", "", "http://127.0.0.1:4000/healthz"},
		{"by name", "", "0.0.0.0:4000", "http://localhost:8500", "", "http://127.0.0.1:4000/healthz"},
		{"by socket", "", "[::]:4000", "unix:///run/consul.sock", "", "http://127.0.0.1:4000/healthz"},
		{"else the one that leads to Consul", "", "[::]:4000", "http://consul:8500", "10.0.0.7", "http://10.0.0.7:4000/healthz"},
	} {
		t.Run(c.name, func(t *testing.T) {
			listening := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.listening))
			got, err := advertise(t.Context(), c.setting, listening, c.consul, toConsul)
			if err != nil || got.address != c.address || got.healthURL() != c.health {
				t.Errorf("got %q, %s, %v, want %q, %s", got.address, got.healthURL(), err, c.address, c.health)
			}
		})
	}
}

func TestAddressThatCannotBeFoundSaysWhichSettingHelps(t *testing.T) {
	lost := func(context.Context, string) (netip.Addr, error) { return netip.Addr{}, errors.New("no route") }
	_, err := advertise(t.Context(), "", &net.TCPAddr{IP: net.IPv4zero, Port: 4000}, "consul:8500", lost)
	if err == nil || !strings.Contains(err.Error(), "API_ADDRESS") {
		t.Errorf("got %v, want an error that names the setting", err)
	}
}
