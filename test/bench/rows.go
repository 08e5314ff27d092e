package main

import (
	"context"
	"time"
)

// row is one line of the table.
type row struct {
	name, title string
	limit       time.Duration
	measure     func(context.Context, *bench) error
}

// rows are in the order of the table. A goal is a multiple of the floor of the
// same run, unless it says otherwise.
var rows = []row{
	{
		name: "small-30ms", title: "1 service × 10 instances, a weight changes every 30 ms", limit: 6 * time.Minute,
		measure: latency{fleet: fleet{services: 1, instances: 10}, every: 30 * time.Millisecond, changes: 100, blocks: 4, p50: 1.4, p99: 2}.measure,
	},
	{
		name: "small-400ms", title: "1 × 10, a weight changes every 400 ms", limit: 8 * time.Minute,
		measure: latency{fleet: fleet{services: 1, instances: 10}, every: 400 * time.Millisecond, changes: 20, blocks: 2, p50: 1.3, p99: 2}.measure,
	},
	{
		name: "large", title: "1 × 10,000, a weight changes every 400 ms", limit: 10 * time.Minute,
		measure: latency{fleet: fleet{services: 1, instances: 10_000}, every: 400 * time.Millisecond, changes: 12, blocks: 2, p50: 1.3, p99: 2}.measure,
	},
	{
		name: "many", title: "1,000 × 10, a weight changes every 100 ms", limit: 8 * time.Minute,
		measure: latency{fleet: fleet{services: 1000, instances: 10}, every: 100 * time.Millisecond, changes: 60, blocks: 3, p50: 1.5, p99: 3}.measure,
	},
	{name: "many-idle", title: "1,000 × 10, nothing changes for 20 s", limit: 4 * time.Minute, measure: idle},
	{name: "large-start", title: "1 × 10,000, from the sidecar's start until it is ready", limit: 5 * time.Minute, measure: start},
	{
		name: "flip-30ms", title: "1 × 10, one check flips every 30 ms", limit: 6 * time.Minute,
		measure: latency{fleet: fleet{services: 1, instances: 10}, flips: true, every: 30 * time.Millisecond, changes: 60, blocks: 3, p50: 0.8, p99: 0.8, peers: []string{fabio}, goalOf: fabio}.measure,
	},
	{
		name: "flip-100ms", title: "1 × 10, one check flips every 100 ms", limit: 6 * time.Minute,
		measure: latency{fleet: fleet{services: 1, instances: 10}, flips: true, every: 100 * time.Millisecond, changes: 60, blocks: 3, p50: 0.8, p99: 0.8, peers: []string{fabio}, goalOf: fabio}.measure,
	},
	{
		name: "flip-400ms", title: "1 × 10, one check flips every 400 ms", limit: 8 * time.Minute,
		measure: latency{fleet: fleet{services: 1, instances: 10}, flips: true, every: 400 * time.Millisecond, changes: 20, blocks: 2, p50: 0.8, p99: 0.8, peers: []string{fabio}, goalOf: fabio}.measure,
	},
	{
		name: "peers", title: "1 × 10, one check flips every second, with peers", limit: 8 * time.Minute,
		measure: latency{fleet: fleet{services: 1, instances: 10}, flips: true, every: time.Second, changes: 10, blocks: 1, peers: []string{consulTemplate, dns, fabio}}.measure,
	},
	{name: "routes", title: "1,000 services with 10,000 routes from tags, one route changes every 400 ms", limit: 10 * time.Minute, measure: routeChanges},
	{name: "routes-traffic", title: "Requests by 10,000 routes and by 10, on one thread", limit: 5 * time.Minute, measure: routeTraffic},
	{name: "storm", title: "100 × 10, 1,000 changes a second for 10 s, under traffic", limit: 5 * time.Minute, measure: storm},
	{name: "deployments", title: "50 deployments of three instances in a row, under traffic", limit: 10 * time.Minute, measure: deployments},
	{name: "rolling", title: "1 × 1,000, all replaced, 50 at a time", limit: 10 * time.Minute, measure: rolling},
	{name: "sidecars", title: "100 sidecars on one Consul, 1 × 10", limit: 10 * time.Minute, measure: sidecars},
	{name: "consul", title: "What followers cost Consul", limit: 10 * time.Minute, measure: consulLoad},
	{name: "consul-agents", title: "What followers cost Consul's server, directly and by agents", limit: 5 * time.Minute, measure: consulAgents},
	{name: "noop", title: "What the sidecar allocates for a change of which nothing follows", limit: 6 * time.Minute, measure: noop},
}
