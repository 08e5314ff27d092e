package consultest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"
)

// register is /v1/agent/service/register: a service and its checks in one
// call. A check whose ID the agent has keeps its state, as in the real one.
func (f *Fake) register(w http.ResponseWriter, r *http.Request) {
	var in api.AgentServiceRegistration
	if !decode(w, r, &in) {
		return
	}
	if in.Name == "" {
		http.Error(w, "Missing service name", http.StatusBadRequest)
		return
	}
	if in.ID == "" {
		in.ID = in.Name
	}
	checks := in.Checks
	if in.Check != nil {
		checks = append(checks, in.Check)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Query().Has("replace-existing-checks") {
		for k, c := range f.checks {
			if k.node == nodeName && c.ServiceID == in.ID && !hasCheck(checks, in.ID, k.id) {
				delete(f.checks, k)
			}
		}
	}
	for i, c := range checks {
		f.addCheck(in, checkID(checks, in.ID, i), c)
	}
	weights := api.AgentWeights{Passing: 1, Warning: 1}
	if in.Weights != nil {
		weights = *in.Weights
	}
	f.services[key{nodeName, in.ID}] = &service{AgentService: api.AgentService{
		ID: in.ID, Service: in.Name, Tags: in.Tags, Meta: in.Meta, Port: in.Port, Address: in.Address, Weights: weights,
	}}
	f.touch(in.Name)
}

func (f *Fake) addCheck(in api.AgentServiceRegistration, id string, c *api.AgentServiceCheck) {
	state := c.Status
	if state == "" {
		state = api.HealthCritical
	}
	if before := f.checks[key{nodeName, id}]; before != nil {
		state = before.Status
	}
	f.checks[key{nodeName, id}] = &api.HealthCheck{
		Node: nodeName, CheckID: id, Name: c.Name, Status: state, ServiceID: in.ID, ServiceName: in.Name,
	}
}

func checkID(checks api.AgentServiceChecks, service string, i int) string {
	switch {
	case checks[i].CheckID != "":
		return checks[i].CheckID
	case len(checks) == 1:
		return "service:" + service
	}
	return fmt.Sprintf("service:%s:%d", service, i+1)
}

func hasCheck(checks api.AgentServiceChecks, service, id string) bool {
	for i := range checks {
		if checkID(checks, service, i) == id {
			return true
		}
	}
	return false
}

func (f *Fake) deregister(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := r.PathValue("id")
	s := f.services[key{nodeName, id}]
	if s == nil {
		http.Error(w, fmt.Sprintf("Unknown service ID %q. Ensure that the service ID is passed, not the service name.", id), http.StatusNotFound)
		return
	}
	delete(f.services, key{nodeName, id})
	for k, c := range f.checks {
		if k.node == nodeName && c.ServiceID == id {
			delete(f.checks, k)
		}
	}
	f.touch(s.Service)
	f.forgotten[s.Service] = f.index
}

func (f *Fake) updateCheck(w http.ResponseWriter, r *http.Request) {
	var in struct{ Status, Output string }
	if !decode(w, r, &in) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.checks[key{nodeName, r.PathValue("id")}]
	if c == nil {
		http.Error(w, fmt.Sprintf("Unknown check ID %q. Ensure that the check ID is passed, not the check name.", r.PathValue("id")), http.StatusNotFound)
		return
	}
	if c.Status != in.Status || c.Output != in.Output {
		c.Status, c.Output = in.Status, in.Output
		f.touch(c.ServiceName)
	}
}

func (f *Fake) serviceMaintenance(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.services[key{nodeName, r.PathValue("id")}]
	if s == nil {
		http.Error(w, "Unknown service ID", http.StatusNotFound)
		return
	}
	f.maintenance(r, api.ServiceMaintPrefix+s.ID, &s.AgentService)
	f.touch(s.Service)
}

func (f *Fake) nodeMaintenance(_ http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.maintenance(r, api.NodeMaint, &api.AgentService{})
	f.touchNode(nodeName)
}

func (f *Fake) maintenance(r *http.Request, id string, s *api.AgentService) {
	if r.URL.Query().Get("enable") != "true" {
		delete(f.checks, key{nodeName, id})
		return
	}
	f.checks[key{nodeName, id}] = &api.HealthCheck{
		Node: nodeName, CheckID: id, Status: api.HealthCritical, ServiceID: s.ID, ServiceName: s.Service,
	}
}

func (f *Fake) agentService(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.services[key{nodeName, r.PathValue("id")}]
	if s == nil {
		http.Error(w, "unknown service ID: "+r.PathValue("id"), http.StatusNotFound)
		return
	}
	reply(w, s.AgentService)
}

// catalogRegister is /v1/catalog/register: anything on any node, unchecked.
func (f *Fake) catalogRegister(w http.ResponseWriter, r *http.Request) {
	var in api.CatalogRegistration
	if !decode(w, r, &in) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[in.Node] = in.Address
	if s := in.Service; s != nil {
		if s.ID == "" {
			s.ID = s.Service
		}
		if s.Weights == (api.AgentWeights{}) {
			s.Weights = api.AgentWeights{Passing: 1, Warning: 1}
		}
		f.services[key{in.Node, s.ID}] = &service{AgentService: *s}
		f.touch(s.Service)
	}
	if c := in.Check; c != nil {
		f.checks[key{in.Node, c.CheckID}] = &api.HealthCheck{
			Node: in.Node, CheckID: c.CheckID, Name: c.Name, Status: strings.ToLower(c.Status), Output: c.Output, ServiceID: c.ServiceID,
		}
		f.touchNode(in.Node)
	}
	reply(w, true)
}
