package registrator_test

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/proctest"
)

// deadline bounds every wait for a fact; none takes it unless it fails.
const deadline = 30 * time.Second

// consul is a real Consul.
type consul struct {
	*lab.Consul
	t *testing.T
}

// newConsul gives one that is not started.
func newConsul(t *testing.T) *consul {
	t.Helper()
	return &consul{proctest.PrepareConsul(t), t}
}

// config is a client's for this agent.
func (c *consul) config() *api.Config { return &api.Config{Address: c.Address()} }

// start starts it, with nothing known.
func (c *consul) start() *consul {
	c.t.Helper()
	if err := c.Restart(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return c
}

func (c *consul) kill() {
	c.t.Helper()
	if err := c.Kill(); err != nil {
		c.t.Fatal(err)
	}
}

// entries gives the instances of a service.
func (c *consul) entries(service string) []*api.ServiceEntry {
	c.t.Helper()
	got, _, err := c.Client.Health().Service(service, "", false, nil)
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
		got, meta, err := c.Client.Health().Service(service, "", false, &api.QueryOptions{WaitIndex: index, WaitTime: 100 * time.Millisecond})
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

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	proctest.Until(t, deadline, what, fact)
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	n, err := strconv.Atoi(address[strings.LastIndexByte(address, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
