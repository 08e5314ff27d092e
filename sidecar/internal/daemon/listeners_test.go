package daemon

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
)

// Each form of a bind line that the settings let in is one that HAProxy takes.
func TestBind_EachForm_IsTakenByHAProxy(t *testing.T) {
	t.Parallel()
	for _, bind := range []string{
		"127.0.0.1:8080", ":8080", "*:8080", "[::1]:8080", ":::8080", "ipv4@127.0.0.1:8080", "ipv4@:8080", "ipv4@*:8080", "ipv6@[::1]:8080", "ipv6@:8080", "ipv6@*:8080",
		"127.0.0.1:8080-8090", "ipv4@*:8080-8081", "127.0.0.1:8080,127.0.0.2:8080", "ipv4@127.0.0.1:8080,unix@/tmp/x.sock,/tmp/y.sock", "unix@/tmp/x.sock mode 600",
	} {
		cfg := loaded(t, fmt.Sprintf("services: [{name: api, bind: %q}]\nhaproxy: {socket: /tmp/admin.sock, health: {bind: \"127.0.0.1:8405\"}}\n", bind))
		content := fileOf(t, cfg, nil)
		file := filepath.Join(t.TempDir(), "haproxy.cfg")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), haproxytest.Binary(t), "-c", "-f", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", bind, err, out)
		}
	}
}

// What HAProxy and the sidecar listen on by any setting is known.
func TestOwnListeners_OfEverySetting_AreKnown(t *testing.T) {
	template := filepath.Join(t.TempDir(), "haproxy.cfg.tmpl")
	if err := os.WriteFile(template, []byte(`global
    stats socket {{.RuntimeSocket}} level admin
    stats socket ipv4@10.0.0.1:9001 level admin
frontend own
    bind "10.0.0.2:9002" # quoted
    bind localhost:9003
    bind "${HOST}:9004"
    bind 10.0.0.5:9005-9009,[fd00::1]:9010
    bind /run/x.sock
    bind quic4@:9011
listen l
    bind :9012 ssl crt /x
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := loaded(t, fmt.Sprintf("services: []\nname: lb0\napi: {address: ':0', advertise: '192.0.2.1:443'}\nhaproxy: {template: %q, socket: '10.0.0.9:9020', master_socket: 'localhost:9021'}\n", template))
	r, err := NewRenderer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range ownListeners(cfg, r, &net.TCPAddr{IP: net.IPv6unspecified, Port: 9600}) {
		got = append(got, fmt.Sprintf("%s %d-%d %s", l.Addr, l.First, l.Last, l.What))
	}
	want := []string{
		":: 9600-9600 api.address",
		"192.0.2.1 443-443 api.advertise",
		"10.0.0.9 9020-9020 haproxy.socket",
		"0.0.0.0 9021-9021 haproxy.master_socket",
		"10.0.0.9 9020-9020 global of haproxy.cfg",
		"10.0.0.1 9001-9001 global of haproxy.cfg",
		"10.0.0.2 9002-9002 frontend own of haproxy.cfg",
		"0.0.0.0 9003-9003 frontend own of haproxy.cfg",
		"0.0.0.0 9004-9004 frontend own of haproxy.cfg",
		"10.0.0.5 9005-9009 frontend own of haproxy.cfg",
		"fd00::1 9010-9010 frontend own of haproxy.cfg",
		"0.0.0.0 9012-9012 listen l of haproxy.cfg",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// In include mode, what the operator's half listens on is HAProxy's own, too.
func TestOwnListeners_InIncludeMode_OfBothHalves(t *testing.T) {
	base := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(base, []byte("frontend www\n  bind 10.0.0.2:9002\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := loaded(t, fmt.Sprintf("services: []\nhaproxy: {base_config: %q, config: /run/pointsman.cfg}\n", base))
	r, err := NewRenderer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range ownListeners(cfg, r, nil) {
		if l.Addr.String() == "10.0.0.2" && l.First == 9002 {
			return
		}
	}
	t.Error("the listener of the operator's half is not known")
}
