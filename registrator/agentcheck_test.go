package registrator_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator"
)

func agentPort(t *testing.T) int {
	t.Helper()
	on, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = on.Close() }()
	return on.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
}

func asked(port int) (string, error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	said, err := io.ReadAll(c)
	return string(said), err
}

func TestAgentCheck_AsRegistered_AnswersUntilLeft(t *testing.T) {
	f := &agentFake{}
	c := fakeConfig(f)
	c.Address, c.AgentPort, c.LeaveWait, c.Sidecars.Off = "127.0.0.1", agentPort(t), time.Millisecond, true
	r := registered(t, c)
	if !strings.Contains(f.known, `"pointsman-agent-port":"`+strconv.Itoa(c.AgentPort)+`"`) {
		t.Errorf("registered: got %s, want the port in meta", f.known)
	}
	if said, err := asked(c.AgentPort); said != "up\n" || err != nil {
		t.Errorf("got %q, %v, want up", said, err)
	}
	if err := r.Leave(t.Context(), func(context.Context) error {
		if said, err := asked(c.AgentPort); said != "stopped #leaving\n" || err != nil {
			t.Errorf("at the stop: got %q, %v, want stopped", said, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if said, err := asked(c.AgentPort); err == nil {
		t.Errorf("after the end: got %q, want no answer", said)
	}
}

// The registered address may be that of a machine before it, which translates.
func TestAgentCheck_AddressOfAnother_ListensAtAll(t *testing.T) {
	f := &agentFake{}
	c := fakeConfig(f)
	c.Address, c.AgentPort = "192.0.2.77", agentPort(t)
	registered(t, c)
	if said, err := asked(c.AgentPort); said != "up\n" || err != nil {
		t.Errorf("got %q, %v, want up", said, err)
	}
}

func TestAgentCheck_PortTaken_RegisterFails(t *testing.T) {
	on, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = on.Close() }()
	f := &agentFake{}
	c := fakeConfig(f)
	c.Address, c.AgentPort = "127.0.0.1", on.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
	r, err := registrator.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Register(t.Context()); err == nil || !strings.Contains(err.Error(), "agent port: ") || errors.Is(err, context.Canceled) || f.known != "" {
		t.Errorf("Register = %v, with %q in Consul; want the port named, and nothing registered", err, f.known)
	}
}
