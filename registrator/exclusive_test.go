package registrator_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/registrator"
)

// exclusively registers api-1, and gives its log and looks that have seen nothing.
func exclusively(t *testing.T, c *consul) (log *bytes.Buffer, look func()) {
	t.Helper()
	config := configFor(t, c, program(t))
	log = new(bytes.Buffer)
	config.Logger = hclog.New(&hclog.LoggerOptions{Output: log})
	// A check of this kind brings nothing to the catalog by itself.
	config.Checks = []registrator.Check{{TTL: time.Hour}}
	config.Exclusive, config.Watchdog = true, time.Hour
	r := registered(t, config)
	eventually(t, "instance", func() bool { return len(c.entries("api")) == 1 })
	r.Close() // and with it the only other look
	return log, r.FirstLook()
}

// A change in the catalog alone was not noticed by a sidecar that had not looked
// before it (issue 13).
func TestExclusive_ChangedInCatalogBeforeFirstLook_Restored(t *testing.T) {
	c := newConsul(t).start()
	log, look := exclusively(t, c)
	port := c.entries("api")[0].Service.Port
	change := func() {
		node := c.entries("api")[0].Node
		if _, err := c.Client.Catalog().Register(&api.CatalogRegistration{
			Node: node.Node, Address: node.Address,
			Service: &api.AgentService{ID: "api-1", Service: "api", Address: "127.0.0.1", Port: 9},
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	// Consul's agent may restore it, too, at any moment.
	eventually(t, "warning", func() bool {
		change()
		look()
		return strings.Contains(log.String(), "registration was changed by another, restored")
	})
	if !strings.Contains(log.String(), "the address in the catalog") {
		t.Errorf("log: got %s, want what was changed, and where", log)
	}
	for range 3 {
		change()
		eventually(t, "restored registration", func() bool {
			look()
			got := c.entries("api")
			return len(got) == 1 && got[0].Service.Port == port
		})
	}
}

// The entry of the same ID on another node is another agent's.
func TestExclusive_SameIDOnAnotherNode_LeftAlone(t *testing.T) {
	c := newConsul(t).start()
	log, look := exclusively(t, c)
	if _, err := c.Client.Catalog().Register(&api.CatalogRegistration{
		Node: "zz-another", Address: "127.0.0.2",
		Service: &api.AgentService{ID: "api-1", Service: "api", Address: "127.0.0.2", Port: 9},
	}, nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		look()
	}
	if strings.Contains(log.String(), "changed by another") {
		t.Errorf("log: got %s, want no warning", log)
	}
}
