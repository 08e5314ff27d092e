package main

import (
	"context"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// The service that has real nodes and real traffic.
const (
	liveService = "live"
	liveNodes   = 3
	// requestRate is low enough for two cores that hold everything else, too.
	requestRate = 200
	quietTime   = 10 * time.Second
	nodeLimit   = time.Minute
)

// live is the sidecar's setting of the service with traffic.
var live = lab.Service{Name: liveService}

// startNodes starts the nodes of a version and waits until HAProxy routes to
// them and to those that serve already.
func (s *site) startNodes(ctx context.Context, l *lab.Lab, version string, serving []*lab.Node) ([]*lab.Node, error) {
	nodes, err := l.StartNodes(ctx, s.consul, liveService, version, lab.Numbered("live"+version+"-", 0, liveNodes)...)
	if err != nil {
		return nil, err
	}
	all := append(append([]*lab.Node{}, serving...), nodes...)
	return nodes, s.lb.Routes(ctx, nodeLimit, liveService, lab.NodeIDs(all...)...)
}

// stopNodes stops nodes as a deployment does, all at once.
func stopNodes(nodes []*lab.Node) error {
	for _, n := range nodes {
		if err := n.Terminate(); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := n.Wait(nodeLimit); err != nil {
			return err
		}
	}
	return nil
}

// traffic sends requests at a fixed rate while work runs, whatever becomes of
// the ones before, and returns what the client found.
func (s *site) traffic(l *lab.Lab, name string, work func() error) (lab.Report, error) {
	client, err := l.StartClient(name, requestRate, []string{s.lb.URL(liveService)})
	if err != nil {
		return lab.Report{}, err
	}
	if err := work(); err != nil {
		return lab.Report{}, err
	}
	return client.Finish(nodeLimit)
}

// quiet is the traffic while nothing changes.
func (s *site) quiet(ctx context.Context, l *lab.Lab) (lab.Report, error) {
	return s.traffic(l, "client-quiet", func() error { return pause(ctx, quietTime) })
}

// failures counts the requests that failed: none may.
func failures(failed uint64) Figure { return none("failed requests", float64(failed)) }

// slowdown is the 99th percentile of the traffic's latency, beside that while
// nothing changes.
func slowdown(during, quiet float64) Figure {
	ratio := spread([]float64{during / quiet})
	return Figure{
		Name: "p99 of requests", Unit: "ms", Ratio: &ratio,
		Values: []Value{{"meanwhile", spread([]float64{during})}, {"before", spread([]float64{quiet})}},
	}
}

func single(name, unit, of string, value float64) Figure {
	return Figure{Name: name, Unit: unit, Values: []Value{{of, spread([]float64{value})}}}
}

// none is a figure that must be 0.
func none(name string, value float64) Figure {
	f := single(name, "", sidecar, value)
	f.setLimit(0)
	return f
}
