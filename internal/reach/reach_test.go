package reach

import (
	"net/netip"
	"testing"
)

func TestConsul_EachForm_HostAndPort(t *testing.T) {
	for address, want := range map[string]string{
		"consul:8500": "consul:8500", "consul": "consul:80", "https://consul": "consul:443", "http://consul/p": "consul:80", "https://[fd00::1]": "[fd00::1]:443",
	} {
		if got, local := Consul(address); got != want || local {
			t.Errorf("%s: got %s, local %v, want %s elsewhere", address, got, local, want)
		}
	}
	for _, address := range []string{"127.0.0.1:8500", "localhost:8500", ":8500", "http://[::1]:8500/proxy", "unix:///run/consul.sock"} {
		if _, local := Consul(address); !local {
			t.Errorf("%s: got elsewhere, want on this machine", address)
		}
	}
}

func TestOutbound_Loopback_IsLoopback(t *testing.T) {
	if got, err := Outbound(t.Context(), "127.0.0.1:8500"); err != nil || got != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("got %s, %v, want 127.0.0.1", got, err)
	}
}

func TestOutboundOrAny_NameIsUnknown_NoLoopback(t *testing.T) {
	got, err := OutboundOrAny(t.Context(), "no.such.host.invalid:8500")
	if err == nil && !got.IsGlobalUnicast() {
		t.Errorf("got %s, want an address that others may reach", got)
	}
	if _, err := Outbound(t.Context(), "no.such.host.invalid:8500"); err == nil {
		t.Error("Outbound: got an address, want an error")
	}
}
