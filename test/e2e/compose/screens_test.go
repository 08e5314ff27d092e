//go:build compose

package compose

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// row is one line of a list in Consul's UI.
type row struct {
	Name string `json:"name"`
	// Health has the class of each mark in the line, "passing" if it is green.
	Health []string `json:"health"`
	Detail string   `json:"detail"` // "3 instances"
}

// What is in the lists, once the page has stopped to load; else null.
const (
	servicesShown = `(() => {
	if (document.querySelector('.outlet:not([data-state=idle])') || document.fonts.status !== 'loaded') return null;
	return [...document.querySelectorAll('.consul-service-list li:has(a)')].map(li => ({
		name: li.querySelector('.header a').innerText.trim(),
		health: [li.querySelector('.header dl').className],
		detail: li.querySelector('.detail').innerText.trim().replace(/\s+/g, ' '),
	}));
})()`
	instancesShown = `(() => {
	if (document.querySelector('.outlet:not([data-state=idle])') || document.fonts.status !== 'loaded') return null;
	return [...document.querySelectorAll('.consul-service-instance-list li:has(a)')].map(li => ({
		name: li.querySelector('.header a').innerText.trim(),
		health: [...li.querySelectorAll('.consul-instance-checks')].map(dl => dl.classList[1]),
	}));
})()`
	// HAProxy's page: of each server of the service, its colour.
	serversShown = `[...document.querySelectorAll('tr:not(.backend, .frontend):has(a[name^="api/"])')].map(tr => ({
	name: tr.querySelector('a[name]').name,
	health: [tr.className],
}))`
)

// What Consul and HAProxy show people agrees with what the sidecars route.
func TestTheNodesAreHealthyInConsulsUIAndOnHAProxysPage(t *testing.T) {
	s := newStack(t)
	b := newBrowser(s.ctx, t)
	s.routes(30*time.Second, "1.0", 3)

	for name, count := range map[string]int{"api": 3, "lb": 2, "pointsman-sidecar": 2} {
		s.until(30*time.Second, fmt.Sprintf("%d instances of %s pass in Consul", count, name), func() error { return s.passing(name, count) })
	}
	b.open(fmt.Sprintf("http://127.0.0.1:%d/ui/dc1/services?sortBy=Name:asc", s.ports["CONSUL_PORT"]))
	passing := []string{"passing"}
	s.shows(b, "consul-services", servicesShown, []row{
		{"api", passing, "3 instances"},
		{"consul", passing, "1 instance"},
		{"lb", passing, "2 instances"},
		{"pointsman-sidecar", passing, "2 instances"},
	})

	b.open(fmt.Sprintf("http://127.0.0.1:%d/ui/dc1/services/api/instances?sortBy=Name:asc", s.ports["CONSUL_PORT"]))
	checks := []string{"passing", "passing"} // its own, its Consul node's
	s.shows(b, "consul-api", instancesShown, []row{
		{Name: "api0", Health: checks}, {Name: "api1", Health: checks}, {Name: "api2", Health: checks},
	})

	b.open(fmt.Sprintf("http://127.0.0.1:%d/", s.ports["LB0_STATS_PORT"]))
	up := []string{"active_up"}
	s.shows(b, "haproxy-lb0", serversShown, []row{{Name: "api/api0", Health: up}, {Name: "api/api1", Health: up}, {Name: "api/api2", Health: up}})

	s.mustLoseNothing("consul's UI and haproxy's page, seen in a browser", s.reloads("lb0")+s.reloads("lb1"))
}

// passing is nil if Consul has that number of passing instances of a service.
func (s *stack) passing(service string, count int) error {
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/v1/health/service/%s?passing", s.ports["CONSUL_PORT"], service), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var entries []any
	if err := json.NewDecoder(response.Body).Decode(&entries); err != nil {
		return err
	}
	if len(entries) != count {
		return fmt.Errorf("it has %d", len(entries))
	}
	return nil
}

// shows waits until the list in the page is this one, and takes a picture of it.
func (s *stack) shows(b *browser, name, shown string, want []row) {
	s.Helper()
	opened := time.Now()
	s.until(60*time.Second, name, func() error {
		got, err := read[[]row](b, shown)
		if err != nil {
			return err
		}
		if len(got) == 0 && time.Since(opened) > 15*time.Second {
			b.open(b.url) // as a person would: Consul's page may stay empty where services change while it loads
			opened = time.Now()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("(-want +got)\n%s", diff)
		}
		return nil
	})
	b.shoot(name)
}
