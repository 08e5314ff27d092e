package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

func TestChangedNamesTheKeysThatDiffer(t *testing.T) {
	before := mustLoad(t, input{yaml: "services: []\nconsul: {token: a}\n"})
	after := mustLoad(t, input{yaml: "services: [{name: api}]\nconsul: {token: b}\nhaproxy: {timeout: 5s}\n"})
	got := config.Changed(before, after)
	if want := []string{"consul.token", "haproxy.timeout", "services"}; !cmp.Equal(got, want) {
		t.Errorf("Changed = %q, want %q", got, want)
	}
	if got := config.Changed(after, after); len(got) != 0 {
		t.Errorf("Changed of one Config = %q, want none", got)
	}
}

func TestNeedRestart_ReadAtTheStartOnly(t *testing.T) {
	restart := config.NeedRestart(config.Changed(
		mustLoad(t, input{yaml: "services: []\n"}),
		mustLoad(t, input{yaml: "services: [{name: api}]\napi: {service: x, advertise: 10.0.0.9, hosts: [x]}\nhaproxy: {peers: {address: \"10.0.0.9:10000\"}}\nfile_delay: 1s\n"}),
	))
	if want := []string{"haproxy.peers.address", "api.service"}; !cmp.Equal(restart, want) {
		t.Errorf("got %q, want %q", restart, want)
	}
}
