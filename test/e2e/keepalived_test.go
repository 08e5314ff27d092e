package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// vip is the address of the guide's pair.
const vip = "192.0.2.10"

// machine is a network namespace with a HAProxy and a keepalived of its own.
type machine struct {
	*world
	name    string
	holder  *lab.Process // keeps the namespace
	haproxy *lab.Process
	vrrp    *lab.Process
}

// inside returns a command that runs in the namespace.
func (m *machine) inside(args ...string) (program string, all []string) {
	return "nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", m.holder.PID()), "--"}, args...)
}

func (m *machine) run(args ...string) (string, error) {
	program, all := m.inside(args...)
	out, err := exec.CommandContext(m.ctx, program, all...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%q on %s: %w: %s", args, m.name, err, out)
	}
	return string(out), nil
}

// start starts a program there that runs on.
func (m *machine) start(name string, args ...string) *lab.Process {
	m.Helper()
	program, all := m.inside(args...)
	p, err := m.Start(m.name+"-"+name, program, all...)
	m.must(err)
	m.Cleanup(func() { _ = p.Kill() })
	return p
}

// hasVIP reports whether the machine has the pair's address.
func (m *machine) hasVIP() (bool, error) {
	out, err := m.run("ip", "-brief", "address", "show", "dev", "eth0")
	return strings.Contains(out, vip+"/"), err
}

// rotation puts the load balancer out of rotation or back, as pointsman maintenance does.
func (m *machine) rotation(state string) {
	m.Helper()
	c, err := new(net.Dialer).DialContext(m.ctx, "unix", m.Path(m.name+".sock"))
	m.must(err)
	defer func() { _ = c.Close() }()
	m.must(c.SetDeadline(time.Now().Add(5 * time.Second)))
	_, err = fmt.Fprintf(c, "set server pointsman.rotation/lb state %s\n", state)
	m.must(err)
	answer := make([]byte, 100)
	n, err := c.Read(answer)
	m.must(err)
	if got := strings.TrimSpace(string(answer[:n])); got != "" {
		m.Fatalf("%s: HAProxy answers %q", m.name, got)
	}
}

// newMachine makes a namespace.
func (w *world) newMachine(name string) *machine {
	w.Helper()
	m := &machine{world: w, name: name}
	var err error
	m.holder, err = w.Start(name+"-namespace", "unshare", "--net", "--", "sleep", "infinity")
	w.must(err)
	w.Cleanup(func() { _ = m.holder.Kill() })
	own, err := os.Readlink("/proc/self/ns/net")
	w.must(err)
	w.must(lab.Until(w.ctx, 5*time.Second, "a network namespace (this test has to run as root)", func() error {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", m.holder.PID())); err != nil || got == own {
			return fmt.Errorf("%s has %s: %w", name, got, errors.Join(err))
		}
		return nil
	}))
	return m
}

// serve starts HAProxy and keepalived with the guide's files.
func (m *machine) serve(keepalived, settings, vrrp string) {
	m.Helper()
	m.must(os.WriteFile(m.Path(m.name+".yaml"), []byte(settings), 0o600))
	render := exec.CommandContext(m.ctx, programs.Sidecar, "render", "--offline", "--config", m.Path(m.name+".yaml"))
	render.Env = append(os.Environ(), "POINTSMAN_HAPROXY_SOCKET="+m.Path(m.name+".sock"), "POINTSMAN_HAPROXY_MASTER_SOCKET=",
		"POINTSMAN_HAPROXY_GLOBAL_USER=", "POINTSMAN_HAPROXY_GLOBAL_GROUP=", "POINTSMAN_HAPROXY_GLOBAL_CHROOT=", "POINTSMAN_HAPROXY_GLOBAL_STATS_SOCKET_GROUP=")
	file, err := render.Output()
	m.must(err)
	m.must(os.WriteFile(m.Path(m.name+".cfg"), file, 0o600))
	m.haproxy = m.start("haproxy", programs.HAProxy, "-W", "-f", m.Path(m.name+".cfg"))
	m.must(lab.Until(m.ctx, 10*time.Second, "HAProxy answers on "+m.name, func() error {
		_, err := m.run("curl", "-fsS", "-m", "1", "http://127.0.0.1:8405/")
		return err
	}))
	m.must(os.WriteFile(m.Path(m.name+".vrrp"), []byte(vrrp), 0o600))
	m.vrrp = m.start("keepalived", keepalived, "--dont-fork", "--log-console", "--use-file="+m.Path(m.name+".vrrp"),
		"--pid="+m.Path(m.name+".pid"), "--vrrp_pid="+m.Path(m.name+".vrrp.pid"))
}

// The guide's two files, word for word, in two network namespaces.
func TestKeepalived_GuidesConfiguration_AddressFollowsHealthAnswer(t *testing.T) {
	t.Parallel()
	keepalived, err := lab.Keepalived()
	w := bareWorld(t)
	w.must(err)
	root, err := lab.Root()
	w.must(err)
	guide, err := os.ReadFile(filepath.Join(root, "docs", "guides", "keepalived.md"))
	w.must(err)
	blocks := regexp.MustCompile("(?s)\n```(?:yaml)?\n(.*?)\n```\n").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) != 2 {
		t.Fatalf("the guide has %d files, want settings and keepalived's", len(blocks))
	}
	settings, vrrp := blocks[0][1]+"\n", blocks[1][1]+"\n"

	one, two := w.newMachine("one"), w.newMachine("two")
	_, err = one.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprintf("/proc/%d/ns/net", two.holder.PID()))
	w.must(err)
	for m, address := range map[*machine]string{one: "192.0.2.1/24", two: "192.0.2.2/24"} {
		for _, args := range [][]string{{"link", "set", "lo", "up"}, {"address", "add", address, "dev", "eth0"}, {"link", "set", "eth0", "up"}} {
			_, err := m.run(append([]string{"ip"}, args...)...)
			w.must(err)
		}
	}
	one.serve(keepalived, settings, vrrp)
	two.serve(keepalived, settings, strings.Replace(vrrp, "priority 100", "priority 90", 1))

	moves := func(what string, from, to *machine) {
		t.Helper()
		begun := time.Now()
		w.must(lab.Until(w.ctx, 20*time.Second, what, func() error {
			has, err := to.hasVIP()
			had, errFrom := from.hasVIP()
			if err != nil || errFrom != nil || !has || had {
				return fmt.Errorf("%s has it: %v, %s has it: %v (%w)", to.name, has, from.name, had, errors.Join(err, errFrom))
			}
			return nil
		}))
		t.Logf("%s: %v", what, time.Since(begun).Round(100*time.Millisecond))
		for _, m := range []*machine{one, two} { // HAProxy answers, which has no server
			out, err := m.run("curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "http://"+vip+"/")
			if err != nil || out != "503" {
				t.Errorf("%s: a request from %s got %q and %v, want HAProxy's 503", what, m.name, out, err)
			}
		}
	}
	moves("the address comes to the one with the higher priority", two, one)
	for _, complaint := range []string{"SECURITY VIOLATION", "Unknown keyword", "(Line ", "does not exist"} {
		if log := one.vrrp.Tail(100); strings.Contains(log, complaint) {
			t.Errorf("keepalived complains of the guide's file:\n%s", log)
		}
	}
	one.rotation("maint")
	moves("maintenance moves it", one, two)
	one.rotation("ready")
	w.must(lab.Until(w.ctx, 20*time.Second, "keepalived sees that HAProxy is back", func() error {
		if log := one.vrrp.Tail(5); !strings.HasSuffix(strings.TrimSpace(log), "Entering BACKUP STATE") {
			return errors.New("it logs:\n" + log)
		}
		return nil
	}))
	// Without nopreempt it moves four seconds later.
	if lab.Until(w.ctx, 8*time.Second, "", func() error {
		if has, err := two.hasVIP(); err != nil || has {
			return errors.New("it has not moved")
		}
		return nil
	}) == nil {
		t.Error("the address has moved back by itself")
	}
	w.must(two.haproxy.Kill())
	moves("a HAProxy that is killed moves it", two, one)
}
