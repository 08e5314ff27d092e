//go:build linux

package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

// consul is a real Consul.
type consul struct{ *lab.Consul }

// shared is the one that all tests use, each for a service ID of its own, but
// those that end it.
var (
	shared    consul
	endShared = func() error { return nil }
	shareOne  sync.Once
)

func sharedConsul(t *testing.T) consul {
	t.Helper()
	shareOne.Do(func() {
		c, end, err := proctest.NewConsul()
		if err != nil {
			t.Fatal(err)
		}
		endShared = end
		consul{c}.start(t)
		shared = consul{c}
	})
	if shared.Consul == nil {
		t.Fatal("consul did not start for another test")
	}
	return shared
}

// env leads a wrapper to it.
func (c consul) env() []string { return []string{"CONSUL_HTTP_ADDR=" + c.Address()} }

// start starts it, with nothing known.
func (c consul) start(t *testing.T) {
	t.Helper()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// entry returns the instance with the ID, or nil.
func (c consul) entry(t *testing.T, service, id string) *api.ServiceEntry {
	t.Helper()
	all, _, err := c.Client.Health().Service(service, "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Service.ID == id {
			return e
		}
	}
	return nil
}

// registered waits until the instance is there and passing.
func (c consul) registered(t *testing.T, service, id string) *api.ServiceEntry {
	t.Helper()
	var e *api.ServiceEntry
	eventually(t, "registration", func() bool {
		e = c.entry(t, service, id)
		return e != nil && e.Checks.AggregatedStatus() == api.HealthPassing
	})
	return e
}

// record notes what a watcher sees of the instance.
func (c consul) record(t *testing.T, id string) (stop func() []string) {
	t.Helper()
	return proctest.Record(t, c.Client, "api", id)
}

// findProgram looks in the variable, in the place, and on the PATH.
func findProgram(t *testing.T, variable, name string, places ...string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	for _, place := range places {
		path, err := filepath.Abs(place)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			return path
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("no %s: run `make tools`, or set %s to its path", name, variable)
	}
	return path
}
