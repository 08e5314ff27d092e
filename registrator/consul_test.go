package registrator_test

import (
	"strconv"
	"strings"
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

// newConsul returns one that is not started.
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

// entries returns the instances of a service.
func (c *consul) entries(service string) []*api.ServiceEntry {
	c.t.Helper()
	got, _, err := c.Client.Health().Service(service, "", false, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return got
}

// record notes what a watcher sees of api-1.
func (c *consul) record() (stop func() []string) {
	c.t.Helper()
	return proctest.Record(c.t, c.Client, "api", "api-1")
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
