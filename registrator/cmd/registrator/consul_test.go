//go:build linux

package main_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// consul is a real `consul agent -dev`. The library's tests have the same; a
// test's code can't be shared between packages without being a package.
type consul struct {
	ports []string
	api   *api.Client
	cmd   *exec.Cmd
	done  chan struct{}
}

// shared is the one that all tests use, each for a service ID of its own, but
// those that end it.
var (
	shared   *consul
	shareOne sync.Once
)

func sharedConsul(t *testing.T) *consul {
	t.Helper()
	shareOne.Do(func() {
		c := newConsul(t)
		c.start(t)
		shared = c
	})
	if shared == nil {
		t.Fatal("consul did not start for another test")
	}
	return shared
}

func endSharedConsul() {
	if shared != nil {
		shared.kill()
	}
}

// newConsul gives one that is not started.
func newConsul(t *testing.T) *consul {
	t.Helper()
	c := &consul{}
	var config net.ListenConfig
	var held []net.Listener // until all are found: else one is found twice
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 4 {
		l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		c.ports, held = append(c.ports, port), append(held, l)
	}
	client, err := api.NewClient(&api.Config{Address: "127.0.0.1:" + c.ports[0]})
	if err != nil {
		t.Fatal(err)
	}
	c.api = client
	return c
}

// env leads a wrapper to it.
func (c *consul) env() []string { return []string{"CONSUL_HTTP_ADDR=127.0.0.1:" + c.ports[0]} }

// start starts it, with nothing known, and waits until it has a leader.
func (c *consul) start(t *testing.T) {
	t.Helper()
	out := new(bytes.Buffer)
	bin := findConsul(t)
	flags, err := lab.WithoutGRPCTLS(t.Context(), bin)
	if err != nil {
		t.Fatal(err)
	}
	c.cmd = exec.Command(bin, append([]string{ //nolint:noctx // kill ends it
		"agent", "-dev", "-node", "test", "-bind", "127.0.0.1", "-log-level", "warn",
		"-hcl", "disable_update_check = true", "-dns-port", "-1", "-grpc-port", "-1", "-serf-wan-port", "-1",
		"-http-port", c.ports[0], "-server-port", c.ports[1], "-serf-lan-port", c.ports[2],
	}, flags...)...)
	c.cmd.Stdout, c.cmd.Stderr = out, out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.done = make(chan struct{})
	started := make(chan error)
	go func(cmd *exec.Cmd, done chan struct{}) {
		runtime.LockOSThread() // the process ends with the thread that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(done)
	}(c.cmd, c.done)
	if err := <-started; err != nil {
		t.Fatalf("start consul: %v", err)
	}
	eventually(t, "consul's leader", func() bool {
		select {
		case <-c.done:
			t.Fatalf("consul ended:\n%s", out)
		default:
		}
		node, _, err := c.api.Catalog().Node("test", nil)
		return err == nil && node != nil
	})
}

func (c *consul) kill() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill() // ended already: as well
	<-c.done
}

// entry gives the instance with the ID, or nil.
func (c *consul) entry(t *testing.T, service, id string) *api.ServiceEntry {
	t.Helper()
	all, _, err := c.api.Health().Service(service, "", false, nil)
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
func (c *consul) registered(t *testing.T, service, id string) *api.ServiceEntry {
	t.Helper()
	var e *api.ServiceEntry
	eventually(t, "registration", func() bool {
		e = c.entry(t, service, id)
		return e != nil && e.Checks.AggregatedStatus() == api.HealthPassing
	})
	return e
}

// record notes every different thing that a watcher sees of the instance, until
// stop is called.
func (c *consul) record(t *testing.T, service, id string) (stop func() []string) {
	t.Helper()
	var seen []string
	quit, done := make(chan struct{}), make(chan struct{})
	var index uint64
	look := func() {
		got, meta, err := c.api.Health().Service(service, "", false, &api.QueryOptions{WaitIndex: index, WaitTime: 100 * time.Millisecond})
		if err != nil {
			t.Errorf("watch %s: %v", service, err)
			return
		}
		index = meta.LastIndex
		now := "absent"
		for _, e := range got {
			if e.Service.ID != id {
				continue
			}
			now = e.Checks.AggregatedStatus()
			if e.Service.Meta["pointsman-drain"] != "" {
				now += " leaving"
			}
		}
		if len(seen) == 0 || seen[len(seen)-1] != now {
			seen = append(seen, now)
		}
	}
	look()
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				look() // what came last
				return
			default:
				look()
			}
		}
	}()
	stop = sync.OnceValue(func() []string {
		close(quit)
		<-done
		return slices.Clone(seen)
	})
	t.Cleanup(func() { stop() })
	return stop
}

func findConsul(t *testing.T) string {
	t.Helper()
	return findProgram(t, "CONSUL", "consul", filepath.Join("..", "..", "..", ".tools", "bin", "consul"))
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
