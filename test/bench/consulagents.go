package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

const (
	agentCount     = 10
	agentInstances = 1000
	agentChanges   = 30
)

// consulAgents compares what followers cost Consul's server when they ask it
// themselves, and when each asks an agent beside it. Agents get each change of a
// service once, as an event, and make the answers themselves.
func consulAgents(ctx context.Context, b *bench) error {
	direct, _, err := b.agentCost(ctx, 0)
	if err != nil {
		return err
	}
	server, agent, err := b.agentCost(ctx, agentCount)
	if err != nil {
		return err
	}
	b.result.Runs, b.result.Changes = 1, agentChanges
	b.result.Figures = append(b.result.Figures,
		Figure{Name: fmt.Sprintf("the server, for a change with %d followers of %s instances", agentCount, thousands(agentInstances)), Unit: "ms of a core", Values: []Value{
			{"by agents", spread([]float64{server})}, {"asked directly", spread([]float64{direct})},
		}},
		single("each agent, for a change", "ms of a core", "by agents", agent))
	return nil
}

// agentCost returns what a change costs the server and each agent. Without
// agents, the followers ask the server.
func (b *bench) agentCost(ctx context.Context, agents int) (server, agent float64, err error) {
	port, err := b.lab.Port()
	if err != nil {
		return 0, 0, err
	}
	s, err := b.newConsul(ctx, fmt.Sprintf("-serf-lan-port=%d", port))
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = s.consul.Kill() }() // the row's end would end it, too
	s.floor = fleet{services: 1, instances: agentInstances}.service(floorService, 0)
	if err := register(ctx, s.consul.Client, s.floor); err != nil {
		return 0, 0, err
	}
	addresses, pids := make([]string, 0, agentCount), []int{}
	for i := range agents {
		address, pid, err := b.startAgent(ctx, i, port)
		if err != nil {
			return 0, 0, err
		}
		addresses, pids = append(addresses, address), append(pids, pid)
	}
	for len(addresses) < agentCount {
		addresses = append(addresses, s.consul.Address())
	}
	return s.costBehind(ctx, addresses, pids)
}

func (s *site) costBehind(ctx context.Context, addresses []string, pids []int) (server, agent float64, err error) {
	answers := make(chan struct{}, len(addresses))
	var urls []string
	for _, address := range addresses {
		urls = append(urls, fmt.Sprintf("http://%s/v1/health/service/%s", address, floorService))
	}
	followers, ctx, stop := follow(ctx, urls, answers)
	defer stop()
	if err := errors.Join(await(ctx, answers, len(urls)), pause(ctx, settleTime)); err != nil {
		return 0, 0, err
	}
	before, err1 := cpuTime(s.consul.PID())
	agentsBefore, err2 := cpuTimes(pids)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	for k := range agentChanges {
		if err := s.floor[k].setWeight(ctx, s.consul.Client, 7); err != nil {
			return 0, 0, err
		}
		if err := await(ctx, answers, len(urls)); err != nil {
			return 0, 0, err
		}
	}
	after, err1 := cpuTime(s.consul.PID())
	agentsAfter, err2 := cpuTimes(pids)
	stop()
	server = milliseconds(after-before) / agentChanges
	agent = milliseconds(agentsAfter-agentsBefore) / agentChanges / float64(max(1, len(pids)))
	return server, agent, errors.Join(err1, err2, followers.Wait())
}

// startAgent starts a client agent that joins the server at a serf port, and
// waits until it answers for the service.
func (b *bench) startAgent(ctx context.Context, number, join int) (address string, pid int, err error) {
	httpPort, err1 := b.lab.Port()
	serfPort, err2 := b.lab.Port()
	flags, err3 := lab.WithoutGRPCTLS(ctx, b.consul)
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", 0, err
	}
	name := fmt.Sprintf("agent%d", number)
	p, err := b.lab.Start(name, b.consul, append([]string{
		"agent", "-node=" + name, "-data-dir=" + b.lab.Path(name), "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn",
		fmt.Sprintf("-http-port=%d", httpPort), fmt.Sprintf("-serf-lan-port=%d", serfPort), "-dns-port=-1", "-grpc-port=-1",
		fmt.Sprintf("-retry-join=127.0.0.1:%d", join),
	}, flags...)...)
	if err != nil {
		return "", 0, err
	}
	address = fmt.Sprintf("127.0.0.1:%d", httpPort)
	client, err := api.NewClient(&api.Config{Address: "http://" + address, HttpClient: &http.Client{Timeout: 5 * time.Second}})
	if err != nil {
		return "", 0, err
	}
	return address, p.PID(), lab.Until(ctx, startLimit, name+" answers", func() error {
		entries, _, err := client.Health().Service(floorService, "", false, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && len(entries) != agentInstances {
			err = fmt.Errorf("%d instances", len(entries))
		}
		return err
	})
}
