//go:build compose

package compose

import (
	"errors"
	"testing"
	"time"
)

// Zero failures holds for what may be sent again.
const idempotentOnly = "CLIENT_IDEMPOTENT_ONLY=true"

func TestANodeIsKilled(t *testing.T) {
	s := newStack(t, idempotentOnly)
	s.docker("kill", "--signal", "KILL", s.nodes()[0])
	s.routes(30*time.Second, "1.0", 2)
	s.hold(3 * time.Second)
	s.mustLoseNothing("a node killed", s.reloads("lb0")+s.reloads("lb1"))
}

func TestANodeIsPaused(t *testing.T) {
	s := newStack(t, idempotentOnly)
	node := s.nodes()[0]
	s.docker("pause", node)
	s.routes(30*time.Second, "1.0", 2)
	// For longer than any client waits: what it had has to be answered by
	// another.
	s.hold(10 * time.Second)
	s.docker("unpause", node)
	s.routes(30*time.Second, "1.0", 3)
	s.mustLoseNothing("a node paused", s.reloads("lb0")+s.reloads("lb1"))
}

func TestConsulRestartsAndHasForgottenAll(t *testing.T) {
	s := newStack(t)
	s.compose("restart", "consul")
	s.hold(5 * time.Second)
	s.routes(60*time.Second, "1.0", 3)
	s.deploy("1.1") // it is all there again
	s.mustLoseNothing("consul restarted, losing its memory", s.reloads("lb0")+s.reloads("lb1"))
}

func TestConsulIsAwayForAMinuteDuringADeploy(t *testing.T) {
	s := newStack(t)
	done := make(chan error, 1)
	go func() {
		out, err := s.tryDeploy("1.1", "DEPLOY_TIMEOUT=150")
		if err != nil {
			err = errors.Join(err, errors.New(out))
		}
		done <- err
	}()
	s.until(30*time.Second, "the new nodes are started", func() error {
		if n := len(s.nodes()); n != 6 {
			return errors.New("not yet")
		}
		return nil
	})
	s.compose("stop", "--timeout", "1", "consul")
	s.hold(time.Minute)
	s.compose("start", "consul")
	if err := <-done; err != nil {
		t.Errorf("the deployment: %v", err)
	}
	s.routes(30*time.Second, "1.1", 3)
	s.mustLoseNothing("consul away for a minute during a deploy", s.reloads("lb0")+s.reloads("lb1"))
}

func TestTheSidecarIsKilledAndRestartedDuringADeploy(t *testing.T) {
	s := newStack(t)
	done := make(chan error, 1)
	go func() {
		out, err := s.tryDeploy("1.1")
		if err != nil {
			err = errors.Join(err, errors.New(out))
		}
		done <- err
	}()
	s.until(60*time.Second, "1.1 comes in", func() error {
		st, err := s.state("lb0")
		if err != nil {
			return err
		}
		for _, svc := range st.Services {
			for _, i := range svc.Instances {
				if i.Version == "1.1" {
					return nil
				}
			}
		}
		return errors.New("no instance of 1.1 yet")
	})
	s.compose("kill", "--signal", "KILL", "lb0-sidecar")
	s.compose("up", "-d", "--no-deps", "--no-recreate", "lb0-sidecar")
	if err := <-done; err != nil {
		t.Errorf("the deployment: %v", err)
	}
	s.routes(30*time.Second, "1.1", 3)
	s.mustLoseNothing("sidecar killed and restarted during a deploy", s.reloads("lb0")+s.reloads("lb1"))
}

func TestTheNetworkBetweenASidecarAndConsulIsCutAndHeals(t *testing.T) {
	s := newStack(t)
	sidecar := s.compose("ps", "-q", "lb0-sidecar")
	network := s.project + "_default"
	s.docker("network", "disconnect", network, sidecar)
	s.hold(5 * time.Second)
	// lb1 hears of this, lb0 does not: it serves what it knows, and the nodes
	// that leave stay long enough to be found out by its own checks.
	s.compose("up", "-d", "--no-deps", "--no-recreate", "--scale", "api=5", "api")
	s.routes(30*time.Second, "1.0", 5, "lb1")
	s.docker("network", "connect", "--alias", "lb0-sidecar", network, sidecar)
	s.routes(60*time.Second, "1.0", 5, "lb0")
	s.mustLoseNothing("network between a sidecar and consul cut, then healed", s.reloads("lb0")+s.reloads("lb1"))
}
