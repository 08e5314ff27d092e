//go:build compose

package compose

import (
	"strings"
	"testing"
	"time"
)

func TestRollingDeployForwardsAndBack(t *testing.T) {
	s := newStack(t)
	for _, version := range []string{"1.1", "1.2", "1.1"} {
		s.deploy(version)
		s.routes(20*time.Second, version, 3)
	}
	reloads := s.reloads("lb0") + s.reloads("lb1")
	if reloads != 0 {
		t.Errorf("the deployments took %d reloads, want none", reloads)
	}
	s.mustLoseNothing("rolling deploy 1.0 to 1.1 to 1.2, back to 1.1", reloads)
}

// The sidecars give the new version half of the traffic on both load balancers, compare it
// with the old one by HAProxy's counters, and then give it all (issue 17).
func TestCanaryDeploy(t *testing.T) {
	s := newStack(t)
	out, err := s.tryDeploy("1.1", "DEPLOY_CANARY=50,100", "DEPLOY_INTERVAL=10s")
	if err != nil {
		t.Fatalf("deploy: %v\n%s", err, out)
	}
	for _, want := range []string{"50% on lb0, 50% on lb1", "canary promoted", "requests failed", "1.1 deployed"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	s.routes(20*time.Second, "1.1", 3)
	reloads := s.reloads("lb0") + s.reloads("lb1")
	if reloads != 0 {
		t.Errorf("the deployment took %d reloads, want none", reloads)
	}
	s.mustLoseNothing("canary deploy 1.0 to 1.1, by half of the traffic", reloads)
}

func TestScale(t *testing.T) {
	s := newStack(t)
	for _, count := range []string{"10", "2"} {
		s.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "api="+count, "api")
		s.routes(60*time.Second, "1.0", map[string]int{"10": 10, "2": 2}[count])
	}
	s.mustLoseNothing("scale 3 to 10 to 2", s.reloads("lb0")+s.reloads("lb1"))
}

// A version that never becomes healthy: its nodes are taken back, and those of
// 1.0 have not been touched.
func TestABadVersionIsNotDeployed(t *testing.T) {
	s := newStack(t)
	before := s.nodes()
	out, err := s.tryDeploy("1.1", "API_FAIL=critical", "DEPLOY_TIMEOUT=15")
	if err == nil {
		t.Errorf("the deployment succeeded:\n%s", out)
	}
	if !strings.Contains(out, "1.1 not deployed") || !strings.Contains(out, "lb0") {
		t.Errorf("the output does not say what was wrong:\n%s", out)
	}
	s.routes(20*time.Second, "1.0", 3)
	if after := s.nodes(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("nodes: got %v, want as before %v", after, before)
	}
	s.mustLoseNothing("a bad new version", s.reloads("lb0")+s.reloads("lb1"))
}

// Each new node has another address: the old ones' are taken meanwhile.
func TestAllNodesAreReplacedAtOnceByNewAddresses(t *testing.T) {
	s := newStack(t)
	old := s.nodes()
	s.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "api=6", "api")
	// Nothing waits for the new ones to be live.
	s.docker(append([]string{"stop", "--time", "45"}, old...)...)
	s.docker(append([]string{"rm"}, old...)...)
	s.routes(30*time.Second, "1.0", 3)
	s.mustLoseNothing("all nodes replaced at once by new addresses", s.reloads("lb0")+s.reloads("lb1"))
}
