package main

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
)

// fleet is services of equally many instances in Consul's catalog. Each
// instance has one check, as a real one has; nothing listens at its address.
type fleet struct{ services, instances int }

// nodeSize is how many instances share a Consul node.
const nodeSize = 100

// instance is one of a fleet. Its server in HAProxy has the name that HAProxy
// shows for its address.
type instance struct {
	service, id, node string
	addr              string
	port              int
	server            string
	tag               string // beside the version's
	leaving           string // since when it leaves, RFC 3339; empty: it does not
	routes            string // the prefix of tags that claim routes; empty: none
	strips            bool   // its first route strips its path
}

// service returns the instances of a service with a number of its own in the
// fleet, by which it gets its address.
func (f fleet) service(name string, number int) []instance {
	all := make([]instance, f.instances)
	for i := range all {
		n := number*f.instances + i
		all[i] = instance{
			service: name, id: fmt.Sprintf("%s-%d", name, i), node: fmt.Sprintf("%s-node-%d", name, i/nodeSize),
			// 127.0.0.0/8 without 127.0.0.x, which others use.
			addr: fmt.Sprintf("127.%d.%d.%d", 1+n/62_500, n/250%250, 1+n%250), port: 4000,
		}
	}
	return all
}

// txnSize is Consul's limit of operations in a transaction.
const txnSize = 128

// register puts instances into the catalog, many at once.
func register(ctx context.Context, consul *api.Client, instances []instance) error {
	var ops api.TxnOps
	nodes := map[string]bool{}
	for _, i := range instances {
		if !nodes[i.node] {
			nodes[i.node] = true
			ops = append(ops, &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: i.node, Address: "127.0.0.1"}}})
		}
		ops = append(ops,
			&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: i.node, Service: api.AgentService{
				ID: i.id, Service: i.service, Address: i.addr, Port: i.port,
				Tags: i.tags(), Meta: i.meta(), Weights: api.AgentWeights{Passing: 1, Warning: 1},
			}}},
			&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: i.check(api.HealthPassing)}})
	}
	for len(ops) > 0 {
		n := min(txnSize, len(ops))
		ok, answer, _, err := consul.Txn().Txn(ops[:n], (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return fmt.Errorf("register: %w", err)
		}
		if !ok {
			return fmt.Errorf("register: %s", answer.Errors[0].What)
		}
		ops = ops[n:]
	}
	return nil
}

func (i instance) tags() []string {
	tags := []string{"v1"}
	if i.tag != "" {
		tags = append(tags, i.tag)
	}
	if i.routes != "" {
		tags = append(tags, i.routeTags()...)
	}
	return tags
}

func (i instance) meta() map[string]string {
	meta := map[string]string{"version": "1.0"}
	if i.leaving != "" {
		meta["pointsman-drain"] = i.leaving
	}
	return meta
}

func (i instance) check(status string) api.HealthCheck {
	return api.HealthCheck{
		Node: i.node, CheckID: "service:" + i.id, Name: "Service '" + i.service + "' check", Status: status, ServiceID: i.id,
		Output: "HTTP GET http://" + net.JoinHostPort(i.addr, strconv.Itoa(i.port)) + `/healthz: 200 OK Output: {"ok":true}`,
	}
}

// setWeight changes the instance's weight in the catalog.
func (i instance) setWeight(ctx context.Context, consul *api.Client, weight int) error {
	_, err := consul.Catalog().Register(&api.CatalogRegistration{
		Node: i.node, Address: "127.0.0.1", SkipNodeUpdate: true,
		Service: &api.AgentService{
			ID: i.id, Service: i.service, Address: i.addr, Port: i.port,
			Tags: i.tags(), Meta: i.meta(), Weights: api.AgentWeights{Passing: weight, Warning: 1},
		},
	}, (&api.WriteOptions{}).WithContext(ctx))
	return err
}

// setPassing changes the status of the instance's check.
func (i instance) setPassing(ctx context.Context, consul *api.Client, passing int) error {
	status := api.HealthCritical
	if passing == 1 {
		status = api.HealthPassing
	}
	check := i.check(status)
	_, err := consul.Catalog().Register(&api.CatalogRegistration{
		Node: i.node, Address: "127.0.0.1", SkipNodeUpdate: true, Checks: api.HealthChecks{&check},
	}, (&api.WriteOptions{}).WithContext(ctx))
	return err
}

// touch changes what the instance's check says, and not its status: Consul
// answers every query for the service, and there is nothing to do.
func (i instance) touch(ctx context.Context, consul *api.Client, number int) error {
	check := i.check(api.HealthPassing)
	check.Output = fmt.Sprintf("%s, %d", check.Output, number)
	_, err := consul.Catalog().Register(&api.CatalogRegistration{
		Node: i.node, Address: "127.0.0.1", SkipNodeUpdate: true, Checks: api.HealthChecks{&check},
	}, (&api.WriteOptions{}).WithContext(ctx))
	return err
}

// registerAll registers the services of a fleet, some at a time.
func registerAll(ctx context.Context, consul *api.Client, services [][]instance) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, s := range services {
		group.Go(func() error { return register(ctx, consul, s) })
	}
	return group.Wait()
}
