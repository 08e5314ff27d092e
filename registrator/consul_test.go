package registrator_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// deadline bounds every wait for a fact; none takes it unless it fails.
const deadline = 30 * time.Second

// consul is a real `consul agent -dev`. The sidecar's consultest has the same
// for its half; Go's rule for internal packages keeps it there.
type consul struct {
	t     *testing.T
	ports []string
	cmd   *exec.Cmd
	done  chan struct{}
	api   *api.Client
}

func startConsul(t *testing.T) *consul {
	t.Helper()
	c := &consul{t: t}
	var config net.ListenConfig
	var held []net.Listener // until all are found: else one is found twice
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 6 {
		l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		c.ports, held = append(c.ports, port), append(held, l)
	}
	client, err := api.NewClient(c.config())
	if err != nil {
		t.Fatal(err)
	}
	c.api = client
	t.Cleanup(c.kill)
	return c
}

// config is a client's for this agent.
func (c *consul) config() *api.Config { return &api.Config{Address: "127.0.0.1:" + c.ports[0]} }

// start starts it, with nothing known, and waits until it has a leader.
func (c *consul) start() *consul {
	c.t.Helper()
	output := new(bytes.Buffer)
	bin := findConsul(c.t)
	flags, err := lab.WithoutGRPCTLS(c.t.Context(), bin)
	if err != nil {
		c.t.Fatal(err)
	}
	c.cmd = exec.Command(bin, append([]string{ //nolint:noctx // kill ends it
		"agent", "-dev", "-node", "test", "-bind", "127.0.0.1", "-log-level", "warn",
		"-hcl", "disable_update_check = true",
		"-http-port", c.ports[0], "-dns-port", c.ports[1], "-grpc-port", c.ports[2],
		"-server-port", c.ports[3], "-serf-lan-port", c.ports[4], "-serf-wan-port", c.ports[5],
	}, flags...)...)
	c.cmd.Stdout, c.cmd.Stderr = output, output
	c.cmd.SysProcAttr = endWithParent()
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
		c.t.Fatalf("start consul: %v", err)
	}
	eventually(c.t, "consul's leader", func() bool {
		select {
		case <-c.done:
			c.t.Fatalf("consul ended:\n%s", output)
		default:
		}
		node, _, err := c.api.Catalog().Node("test", nil)
		return err == nil && node != nil
	})
	return c
}

func (c *consul) kill() {
	if c.cmd == nil {
		return
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("kill consul: %v", err)
	}
	<-c.done
}

// entries gives the instances of a service.
func (c *consul) entries(service string) []*api.ServiceEntry {
	c.t.Helper()
	got, _, err := c.api.Health().Service(service, "", false, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return got
}

// record notes every different thing that a watcher of the service sees, until
// the test ends or stop is called.
func (c *consul) record(service string) (stop func() []string) {
	c.t.Helper()
	var mu sync.Mutex
	var seen []string
	quit, done := make(chan struct{}), make(chan struct{})
	var index uint64
	look := func() {
		got, meta, err := c.api.Health().Service(service, "", false, &api.QueryOptions{WaitIndex: index, WaitTime: 100 * time.Millisecond})
		if err != nil {
			c.t.Errorf("watch %s: %v", service, err)
			return
		}
		index = meta.LastIndex
		now := "absent"
		if len(got) > 0 {
			now = got[0].Checks.AggregatedStatus()
			if got[0].Service.Meta["pointsman-drain"] != "" {
				now += " leaving"
			}
		}
		mu.Lock()
		defer mu.Unlock()
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
	c.t.Cleanup(func() { stop() })
	return stop
}

func findConsul(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CONSUL"); path != "" {
		return path
	}
	built, err := filepath.Abs(filepath.Join("..", ".tools", "bin", "consul"))
	if err == nil {
		if _, err := os.Stat(built); err == nil {
			return built
		}
	}
	path, err := exec.LookPath("consul")
	if err != nil {
		t.Fatal("no consul: run `make tools`, or set CONSUL to its path")
	}
	return path
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	over := time.Now().Add(deadline)
	for !ok() {
		if time.Now().After(over) {
			t.Fatalf("no %s within %v", what, deadline)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	n, err := strconv.Atoi(address[strings.LastIndexByte(address, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
