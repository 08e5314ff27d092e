package consultest

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"
)

// health is /v1/health/service/NAME with index, wait and tag.
func (f *Fake) health(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Has("filter") {
		http.Error(w, "the fake has no filter language", http.StatusInternalServerError)
		return
	}
	if !f.block(r, query, func() uint64 { return f.serviceIndex(r.PathValue("name")) }) {
		return
	}
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	// A fault that began while the query was blocked.
	if fault.before(f, w, r) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if query.Has("consistent") {
		fault = Fault{}
	}
	setHeaders(w.Header(), f.serviceIndex(r.PathValue("name")), fault)
	reply(w, f.entries(r.PathValue("name"), query["tag"]))
}

// names is /v1/catalog/services with index and wait.
func (f *Fake) names(w http.ResponseWriter, r *http.Request) {
	if !f.block(r, r.URL.Query(), func() uint64 { return f.index }) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	setHeaders(w.Header(), f.index, f.fault)
	out := map[string][]string{"consul": {}}
	for _, s := range f.services {
		out[s.Service] = append(out[s.Service], s.Tags...)
	}
	for name, tags := range out {
		slices.Sort(tags)
		out[name] = slices.Compact(tags)
	}
	reply(w, out)
}

// block waits until the index, which is read with mu held, is above the one asked for, a fault begins, or
// the wait is over. It is false if the client has gone.
func (f *Fake) block(r *http.Request, query url.Values, of func() uint64) bool {
	asked, _ := strconv.ParseUint(query.Get("index"), 10, 64)
	wait, err := time.ParseDuration(query.Get("wait"))
	if err != nil || wait <= 0 {
		wait = 5 * time.Minute
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		f.mu.Lock()
		changed, index, failing := f.changed, of(), f.fault.instead != nil
		f.mu.Unlock()
		if asked == 0 || index > asked || failing {
			return true
		}
		select {
		case <-changed:
		case <-over.C:
			return true
		case <-r.Context().Done():
			return false
		case <-f.done:
			return false
		}
	}
}

// serviceIndex is the service's own index while it has instances, else when it
// lost the last, else the catalog's: a real one does so too. The caller holds mu.
func (f *Fake) serviceIndex(name string) uint64 {
	var index uint64
	for _, s := range f.services {
		if s.Service == name {
			index = max(index, s.index)
		}
	}
	switch {
	case index > 0:
		return index
	case f.forgotten[name] > 0:
		return f.forgotten[name]
	}
	return f.index
}

func (f *Fake) entries(name string, tags []string) []api.ServiceEntry {
	out := []api.ServiceEntry{}
	for k, s := range f.services {
		if s.Service != name || !hasAll(s.Tags, tags) {
			continue
		}
		service := s.AgentService
		entry := api.ServiceEntry{Node: &api.Node{Node: k.node, Address: f.nodes[k.node]}, Service: &service}
		for ck, c := range f.checks {
			if ck.node == k.node && (c.ServiceID == "" || c.ServiceID == s.ID) {
				copied := *c
				entry.Checks = append(entry.Checks, &copied)
			}
		}
		out = append(out, entry)
	}
	slices.SortFunc(out, func(a, b api.ServiceEntry) int {
		return cmp.Or(cmp.Compare(a.Node.Node, b.Node.Node), cmp.Compare(a.Service.ID, b.Service.ID))
	})
	return out
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(have, w) })
}

func setHeaders(h http.Header, index uint64, fault Fault) {
	h.Set("X-Consul-Index", strconv.FormatUint(index, 10))
	h.Set("X-Consul-KnownLeader", "true")
	h.Set("X-Consul-LastContact", "0")
	h.Set("X-Consul-Query-Backend", api.QueryBackendBlockingQuery)
	for name, value := range fault.header {
		h.Set(name, value)
	}
}
