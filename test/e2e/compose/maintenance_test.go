//go:build compose

package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// lb1 goes into maintenance, another version of HAProxy takes its place, and it
// comes back only by a command.
func TestALoadBalancerIsUpgradedInMaintenance(t *testing.T) {
	override := filepath.Join(t.TempDir(), "upgrade.yaml")
	if err := os.WriteFile(override, []byte("services:\n  lb1:\n    image: haproxy:${LB1_HAPROXY:-3.2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startStack(t, []string{"compose.yaml", override})
	s.requestsCome("lb1")

	s.compose("exec", "-T", "lb1-sidecar", "pointsman", "maintenance", "on")
	s.until(20*time.Second, "no requests come to lb1", func() error {
		before, err := s.requests("lb1")
		if err != nil {
			return err
		}
		s.hold(time.Second)
		after, err := s.requests("lb1")
		if err == nil && after != before {
			err = fmt.Errorf("%d in a second", after-before)
		}
		return err
	})
	s.environ = append(s.environ, "LB1_HAPROXY=3.4")
	s.compose("up", "-d", "--no-deps", "lb1")
	s.until(60*time.Second, "lb1 runs 3.4, still in maintenance", func() error {
		st, err := s.state("lb1")
		if err == nil && (len(st.HAProxy.Version) < 3 || st.HAProxy.Version[:3] != "3.4" || !st.HAProxy.Maintenance) {
			err = fmt.Errorf("%+v", st.HAProxy)
		}
		return err
	})
	s.routes(30*time.Second, "1.0", 3)
	s.compose("exec", "-T", "lb1-sidecar", "pointsman", "maintenance", "off")
	s.requestsCome("lb1")
	s.deploy("1.1")
	s.mustLoseNothing("lb1 in maintenance, its HAProxy upgraded, then back", s.reloads("lb0")+s.reloads("lb1"))
}
