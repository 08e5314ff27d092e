//go:build compose

package compose

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"
)

// Prometheus of the overlay reads the sidecars and HAProxy's own exporters, under the
// names of the load balancers, and has the rules; an alert of a load balancer whose
// HAProxy has ended comes up in it.
func TestPrometheusOfTheOverlayReadsBothLoadBalancers(t *testing.T) {
	port := freePort(t)
	s := startStack(t, []string{"compose.yaml", "compose/monitoring.yaml"}, fmt.Sprintf("PROMETHEUS_PORT=%d", port))
	from := fmt.Sprintf("http://127.0.0.1:%d/api/v1/", port)
	// instances gives those for which an expression has a value.
	instances := func(expression string) (found []string, err error) {
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string `json:"metric"`
				} `json:"result"`
			} `json:"data"`
		}
		if err := s.getJSON(from+"query?query="+url.QueryEscape(expression), &answer); err != nil {
			return nil, err
		}
		for _, r := range answer.Data.Result {
			found = append(found, r.Metric["instance"])
		}
		slices.Sort(found)
		return found, nil
	}
	for _, expression := range []string{
		`up{job="pointsman"} == 1`, `up{job="haproxy"} == 1`, `pointsman_ready == 1`, `pointsman_servers{phase="up"} == 3`,
		`rate(haproxy_backend_http_responses_total{proxy="api",code="2xx"}[1m]) > 0`,
	} {
		s.until(60*time.Second, expression, func() error {
			found, err := instances(expression)
			if err == nil && !slices.Equal(found, []string{"lb0", "lb1"}) {
				err = fmt.Errorf("%s: got %q, want lb0 and lb1", expression, found)
			}
			return err
		})
	}
	s.compose("stop", "lb1")
	s.until(60*time.Second, "the alert of lb1", func() error {
		found, err := instances(`ALERTS{alertname="PointsmanHAProxyDown"}`)
		if err == nil && !slices.Equal(found, []string{"lb1"}) {
			err = errors.New("no such alert")
		}
		return err
	})
}
