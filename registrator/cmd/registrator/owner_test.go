//go:build linux

package main_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/registrator"
	"github.com/pointsman/pointsman/registrator/contract"
)

// at waits until the instance is registered at the port.
func (c consul) at(t *testing.T, id string, port int) {
	t.Helper()
	eventually(t, fmt.Sprintf("registration of %s at port %d", id, port), func() bool {
		e := c.entry(t, "api", id)
		return e != nil && e.Service.Port == port && e.Service.Meta["pointsman-drain"] == ""
	})
}

func TestServiceID_HeldByAnother_TakenOverWithWarning(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	first, second := freePort(t), freePort(t)
	id := "held-" + strconv.Itoa(first)
	flags := []string{"--id", id, "--address", "127.0.0.1", "--leave-wait", "300ms"}
	p1 := start(t, c.env(), wrap(first, flags)...)
	c.at(t, id, first)
	p2 := start(t, c.env(), wrap(second, flags)...)
	c.at(t, id, second)
	held := regexp.MustCompile(fmt.Sprintf(`\[WARN\] .*ID of a running process taken over.*address=127\.0\.0\.1:%d age=\d+s`, first))
	eventually(t, "the log of the second one", func() bool { return held.MatchString(p2.Stderr.String()) })
	p1.logs("ID taken by another process, no traffic here")
	p1.logs(fmt.Sprintf("address=127.0.0.1:%d age=", second))

	seen := c.record(t, id)
	p1.Signal(syscall.SIGTERM)
	if got := p1.wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if got := seen(); !slices.Equal(got, []string{"passing"}) {
		t.Errorf("while the first one left a watcher saw %q, want the second's registration untouched", got)
	}
	c.at(t, id, second)
}

func TestServiceID_OwnerLeaves_OtherRegistersAgain(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	first, second := freePort(t), freePort(t)
	id := "returns-" + strconv.Itoa(first)
	flags := []string{"--id", id, "--address", "127.0.0.1", "--leave-wait", "300ms"}
	start(t, c.env(), wrap(first, flags)...)
	c.at(t, id, first)
	p2 := start(t, c.env(), wrap(second, flags)...)
	c.at(t, id, second)
	p2.Signal(syscall.SIGTERM)
	if got := p2.wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	c.at(t, id, first)
}

// What a killed run has left behind is no other process.
func TestServiceID_LeftByKilledRun_ReplacedWithoutWarning(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	port := freePort(t)
	id := "left-" + strconv.Itoa(port)
	args := wrap(port, []string{"--id", id, "--address", "127.0.0.1"})
	p := start(t, c.env(), args...)
	c.at(t, id, port)
	pid := p.saidPID("pid")
	p.Signal(syscall.SIGKILL)
	eventually(t, "end of the program", func() bool { return gone(t, pid) })
	again := start(t, c.env(), args...)
	again.logs("replacing registration of an earlier run")
	if log := again.Stderr.String(); strings.Contains(log, "another process") || strings.Contains(log, "taken over") {
		t.Errorf("log: got %s, want no warning of another process", log)
	}
}

// An operator drains it by hand, by a registration that says no owner.
func TestServiceID_RegisteredAgainByHand_StaysThePrograms(t *testing.T) {
	t.Parallel()
	c := sharedConsul(t)
	port := freePort(t)
	id := "byhand-" + strconv.Itoa(port)
	p := start(t, c.env(), wrap(port, []string{"--id", id, "--address", "127.0.0.1", "--leave-wait", "300ms"})...)
	c.at(t, id, port)
	if err := c.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: id, Name: "api", Address: "127.0.0.1", Port: port, Meta: map[string]string{contract.KeyDrain: time.Now().Format(time.RFC3339)},
	}); err != nil {
		t.Fatal(err)
	}
	drained := func() bool {
		e := c.entry(t, "api", id)
		return e != nil && e.Service.Meta[contract.KeyDrain] != ""
	}
	eventually(t, "drained instance", drained)
	for range 3 { // looks of the wrapper: a query returns as soon as one has changed it
		_, at, err := c.Client.Health().Service("api", "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.Client.Health().Service("api", "", false, &api.QueryOptions{WaitIndex: at.LastIndex, WaitTime: registrator.DefaultWatchdog})
		if err != nil || !drained() {
			t.Fatalf("got %+v (%v), want it drained as before", c.entry(t, "api", id), err)
		}
	}
	p.Signal(syscall.SIGTERM)
	if got := p.wait(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if c.entry(t, "api", id) != nil {
		t.Error("it is registered after its end")
	}
	if log := p.Stderr.String(); strings.Contains(log, "another process") || strings.Contains(log, "taken over") {
		t.Errorf("log: got %s, want no warning of another process", log)
	}
}
