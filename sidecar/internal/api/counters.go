package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// ServiceCounters is the body of /api/v1/counters/{service}: what HAProxy's current
// worker has counted of each instance, in all backends of the service.
type ServiceCounters struct {
	LoadBalancer string             `json:"load_balancer"`
	Service      string             `json:"service"`
	Instances    []InstanceCounters `json:"instances"`
}

// InstanceCounters are those of one instance in one backend. They begin again with
// a worker.
type InstanceCounters struct {
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Backend  string `json:"backend"`
	Server   string `json:"server"` // HAProxy's name for it; in a slot, the slot's
	Version  string `json:"version"`
	Up       bool   `json:"up"` // HAProxy would choose it
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`  // answers 5xx, connections that failed, answers that broke off
	Retries  uint64 `json:"retries"` // attempts to connect after the first
	// ResponseTimeMS is HAProxy's mean of about the last 512 requests, in milliseconds.
	ResponseTimeMS float64 `json:"response_time_ms"`
}

// Counters reads those of a service; isKnown is false for one that this load balancer
// does not route.
type Counters func(ctx context.Context, service string) (counters []InstanceCounters, isKnown bool, err error)

// countersTimeout is how long HAProxy may take to tell.
const countersTimeout = 5 * time.Second

// The bounds of another sidecar's answer.
const (
	maxCounted  = 20_000  // instances
	maxCounters = 8 << 20 // bytes; 20,000 have some 4 MB
)

// serviceCounters answers /api/v1/counters/{service}.
func serviceCounters(name string, read Counters) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := r.PathValue("rest")
		if !isName(service) {
			writeJSON(w, http.StatusBadRequest, problem{"want /api/v1/counters/{service}"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), countersTimeout)
		defer cancel()
		instances, isKnown, err := read(ctx, service)
		switch {
		case !isKnown:
			writeJSON(w, http.StatusNotFound, unroutedAnswer{name, problem{"service not routed"}})
		case err != nil:
			writeJSON(w, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			writeJSON(w, http.StatusOK, ServiceCounters{LoadBalancer: name, Service: service, Instances: instances})
		}
	})
}

// Counters asks what a load balancer has counted of a service. It may be anything that
// another program has registered: a list is bounded while it is decoded, as three bytes
// of it may take a hundred in memory.
func (c *Client) Counters(ctx context.Context, to Target, service string) (ServiceCounters, error) {
	var a struct {
		LoadBalancer string          `json:"load_balancer"`
		Service      string          `json:"service"`
		Instances    json.RawMessage `json:"instances"`
	}
	err := c.ask(ctx, to, stateRequest{path: []string{"counters", service}, most: maxCounters}, &a)
	if err == nil {
		err = is(to, a.LoadBalancer, service, a.Service)
	}
	if err != nil {
		return ServiceCounters{}, err
	}
	all := ServiceCounters{LoadBalancer: a.LoadBalancer, Service: a.Service}
	list := json.NewDecoder(bytes.NewReader(a.Instances))
	if begin, err := list.Token(); err != nil || begin != json.Delim('[') {
		return ServiceCounters{}, errors.New("invalid answer: instances: want a list")
	}
	for list.More() {
		var i InstanceCounters
		if err := list.Decode(&i); err != nil {
			return ServiceCounters{}, fmt.Errorf("invalid answer: instances: %w", err)
		}
		if all.Instances = append(all.Instances, i); len(all.Instances) > maxCounted {
			return ServiceCounters{}, fmt.Errorf("invalid answer: more than %d instances", maxCounted)
		}
	}
	return all, nil
}
