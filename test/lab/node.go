package lab

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Node is one API node.
type Node struct {
	*Process
	Name, Version string
	Port          int
	lab           *Lab
	consul        *Consul
	service       string
	args          []string
}

// StartNode starts an API node of a version, which registers itself as the
// instance of its name of the service, and waits until it answers.
func (l *Lab) StartNode(ctx context.Context, consul *Consul, service, name, version string, args ...string) (*Node, error) {
	n := &Node{Name: name, Version: version, lab: l, consul: consul, service: service, args: args}
	if err := l.portsFor(&n.Port); err != nil {
		return nil, err
	}
	return n, n.Restart(ctx)
}

// StartNodes starts API nodes of a version, one for each name.
func (l *Lab) StartNodes(ctx context.Context, consul *Consul, service, version string, names ...string) (nodes []*Node, err error) {
	for _, name := range names {
		n, err := l.StartNode(ctx, consul, service, name, version)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// Numbered returns names from a number on, such as api3 and api4.
func Numbered(prefix string, first, count int) (names []string) {
	for i := range count {
		names = append(names, prefix+strconv.Itoa(first+i))
	}
	return names
}

// Restart starts it again, as it was, and waits until it answers. It must have
// ended.
func (n *Node) Restart(ctx context.Context) error {
	var err error
	n.Process, err = n.lab.startWith(n.Name, []string{"CONSUL_HTTP_ADDR=" + n.consul.Address()}, n.lab.programs.API, append([]string{
		"--listen", local(n.Port), "--address", "127.0.0.1", "--service", n.service, "--id", n.Name,
		"--instance", n.Name, "--version-name", n.Version,
	}, n.args...)...)
	if err != nil {
		return err
	}
	return Until(ctx, 10*time.Second, n.Name+" answers", func() error {
		if !n.Running() {
			return fmt.Errorf("it has ended:\n%s", n.Tail(10))
		}
		_, err := n.lab.get(ctx, n.URL("healthz"))
		return err
	})
}

// Service is the service that it is an instance of.
func (n *Node) Service() string { return n.service }

// Addr is where it serves: what HAProxy's server has.
func (n *Node) Addr() string { return local(n.Port) }

// URL is an address on the node itself, past every load balancer.
func (n *Node) URL(path string) string { return "http://" + local(n.Port) + "/" + path }

// Fail makes the node answer 5xx, hang, or go critical; "ok" ends it.
func (n *Node) Fail(ctx context.Context, mode string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL("fail?mode="+mode), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := n.lab.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // nothing of it is read
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("lab: %s: fail %s: %s", n.Name, mode, resp.Status)
	}
	return nil
}

// Leave stops the node as a deployment does and waits until it has gone.
func (n *Node) Leave(limit time.Duration) error {
	n.lab.logf("%-10s stopping (SIGTERM)", n.Name)
	if err := n.Stop(limit); err != nil {
		return err
	}
	n.lab.logf("%-10s has left, exit code %d", n.Name, n.ExitCode())
	return nil
}

// Registered waits until Consul lists the node with this health, or, for "",
// no longer lists it.
func (n *Node) Registered(ctx context.Context, limit time.Duration, health string) error {
	return n.consul.lists(ctx, limit, n.Name, n.service, health, func(s *api.AgentService) bool { return s.ID == n.Name })
}

// NodeIDs returns the names of nodes, for Routes.
func NodeIDs(nodes ...*Node) []string {
	ids := make([]string, 0, len(nodes))
	for _, n := range nodes {
		ids = append(ids, n.Name)
	}
	return ids
}

// String is the node's name, for messages.
func (n *Node) String() string { return strings.Join([]string{n.Name, n.Version}, " ") }
