package daemon

import (
	"fmt"
	"io"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// The API and systemd ask at any time whether the sidecar is alive. The race detector
// tells of what a SIGHUP changes meanwhile.
func TestAlive_DuringAReload_ByTheSettingsOfNow(t *testing.T) {
	dir := t.TempDir()
	settings := func(timeout string) (config.Config, error) {
		return loaded(t, fmt.Sprintf("services: []\nhaproxy: {socket: %q, config: %q, reload_timeout: %s}\napi: {address: \"127.0.0.1:0\"}\n", dir+"/admin.sock", dir+"/haproxy.cfg", timeout)), nil
	}
	cfg, err := settings("1m")
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(t.Context(), cfg, Options{Adopt: true, Log: io.Discard, Version: "test", Reload: func() (config.Config, error) { return settings("5m") }})
	if err != nil {
		t.Fatal(err)
	}
	before := d.limit.Load()
	asked := make(chan error)
	go func() { asked <- d.alive() }()
	d.reloadConfig(t.Context())
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if after := d.limit.Load(); after <= before {
		t.Errorf("the limit is %d after the reload, and was %d", after, before)
	}
}
