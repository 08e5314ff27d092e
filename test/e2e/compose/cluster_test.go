//go:build compose

package compose

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// Three servers with ACLs, TLS and gossip encryption: the one that leads is
// killed in the middle of a deployment, and comes back.
func TestTheConsulLeaderIsKilledDuringADeploy(t *testing.T) {
	s := startStack(t, []string{"compose.yaml", "compose/cluster.yaml"}, "CLUSTER_NET=10.213.88")
	leader := s.leader()
	done := make(chan error, 1)
	go func() {
		out, err := s.tryDeploy("1.1", "DEPLOY_TIMEOUT=120")
		if err != nil {
			err = errors.Join(err, errors.New(out))
		}
		done <- err
	}()
	s.until(150*time.Second, "the new nodes are started", func() error {
		if len(s.nodes()) != 6 {
			return errors.New("not yet")
		}
		return nil
	})
	s.compose("kill", "--signal", "KILL", leader)
	if err := <-done; err != nil {
		t.Errorf("the deployment: %v", err)
	}
	s.routes(30*time.Second, "1.1", 3)
	s.compose("up", "-d", "--no-deps", "--no-recreate", leader)
	s.hold(5 * time.Second)
	s.mustLoseNothing("the consul leader killed in the cluster, during a deploy", s.reloads("lb0")+s.reloads("lb1"))
}

// leader is the name of the server that leads.
func (s *stack) leader() string {
	s.Helper()
	address, _, _ := strings.Cut(strings.Trim(s.compose("exec", "-T", "consul0", "wget", "-q", "-O", "-", "http://127.0.0.1:8500/v1/status/leader"), "\""), ":")
	for _, server := range []string{"consul0", "consul1", "consul2"} {
		if strings.Contains(s.compose("exec", "-T", server, "hostname", "-i"), address) {
			return server
		}
	}
	s.Fatalf("no server has the leader's address %q", address)
	return ""
}
