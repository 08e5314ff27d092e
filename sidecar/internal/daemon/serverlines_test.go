package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
)

// requests is the load on a service, one after another, in some goroutines.
type requests struct {
	sent, failed atomic.Int64
	first        atomic.Value // what failed first, and the servers then
	servers      func() string
	stop         func()
}

func (s *optionSite) underLoad(c *optionService, goroutines int) *requests {
	l := &requests{servers: func() (stat string) {
		stat, _ = haproxytest.Send(s.haproxy.Runtime(), "show stat "+c.name+" 4 -1", false)
		return stat
	}}
	var over atomic.Bool
	var running sync.WaitGroup
	for range goroutines {
		running.Go(func() {
			client := s.client(c)
			for !over.Load() {
				l.request(s.t.Context(), client)
			}
		})
	}
	l.stop = func() { over.Store(true); running.Wait() }
	s.t.Cleanup(l.stop)
	return l
}

func (l *requests) request(ctx context.Context, client *http.Client) {
	l.sent.Add(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.test/", http.NoBody)
	if err == nil {
		var reply *http.Response
		if reply, err = client.Do(req); err == nil {
			_, err = io.Copy(io.Discard, reply.Body)
			_ = reply.Body.Close()
			if reply.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %s", reply.Status)
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		if l.failed.Add(1) == 1 {
			l.first.Store(err.Error() + "\n" + l.servers())
		}
	}
}

// leave marks an instance as leaving, waits until the sidecar says that it is
// drained, and stops it.
func (s *optionSite) leave(c *optionService, id string, w *witness) {
	s.t.Helper()
	s.registerOne(c, id, w, map[string]string{"pointsman-drain": time.Now().UTC().Format(time.RFC3339)})
	haproxytest.Until(s.t, c.name+"-"+id+" of "+c.keyword+" is drained", func() bool {
		d, _ := s.agent.State().Drain(c.name, c.name+"-"+id)
		return d.Drained
	})
}

// isUp reports whether HAProxy has the instance at the witness up.
func (s *optionSite) isUp(c *optionService, w *witness) bool {
	return strings.HasPrefix(s.columns(c.name, w.addr())["status"], "UP")
}

func TestRollingDeployment_TLSAndProxyProtocolToServers_NoRequestFails(t *testing.T) {
	t.Parallel()
	s := newOptionSite(t, []optionCase{
		{keyword: "TLS", options: "ssl verify required ca-file CERTS/ca.pem sni str(server) check-sni server"},
		{keyword: "PROXY", options: "send-proxy"},
		{keyword: "PROXY v2 and TLS", options: "send-proxy-v2 ssl verify none"},
		{keyword: "TLS under a static balance", options: "ssl verify none", balance: "static-rr"},
	})
	// As real servers do, they refuse what comes otherwise, checks too.
	takes := map[string]func(bool, string) bool{
		"TLS":                        func(secure bool, proxy string) bool { return secure && proxy == "" },
		"PROXY":                      func(secure bool, proxy string) bool { return !secure && strings.HasPrefix(proxy, "v1") },
		"PROXY v2 and TLS":           func(secure bool, proxy string) bool { return secure && strings.HasPrefix(proxy, "v2") },
		"TLS under a static balance": func(secure bool, _ string) bool { return secure },
	}
	const nodes = 3
	for _, c := range s.services {
		var old, fresh []*witness
		for n := range nodes {
			old, fresh = append(old, newWitness(t, s.certs)), append(fresh, newWitness(t, s.certs))
			old[n].takes, fresh[n].takes = takes[c.keyword], takes[c.keyword]
			s.registerOne(c, fmt.Sprintf("old%d", n), old[n], nil)
		}
		for n := range nodes {
			haproxytest.Until(t, c.keyword+": the old nodes are up", func() bool { return s.isUp(c, old[n]) })
		}
		l := s.underLoad(c, 4)
		for n := range nodes {
			s.registerOne(c, fmt.Sprintf("new%d", n), fresh[n], nil)
		}
		for n := range nodes {
			haproxytest.Until(t, c.keyword+": the new nodes are up", func() bool { return s.isUp(c, fresh[n]) })
		}
		for n := range nodes {
			s.leave(c, fmt.Sprintf("old%d", n), old[n])
			old[n].stop()
		}
		time.Sleep(100 * time.Millisecond) // requests to the new nodes alone
		l.stop()
		t.Logf("%s: %d requests, %d failed", c.keyword, l.sent.Load(), l.failed.Load())
		if l.failed.Load() > 0 || l.sent.Load() < 20 {
			t.Errorf("%s: %d of %d requests failed, first: %v", c.keyword, l.failed.Load(), l.sent.Load(), l.first.Load())
		}
	}
}

// An agent that says "ready" in each answer must not bring a leaving instance
// back into traffic, and one that says "drain" is obeyed.
func TestAgentCheck_LeavingInstance_GetsNoRequestOnceDrained(t *testing.T) {
	t.Parallel()
	s := newOptionSite(t, []optionCase{{keyword: "agent", options: "agent-check agent-port AGENT agent-inter 50ms"}})
	c := s.services[0]
	s.registerOne(c, "stays", c.first, nil)
	s.registerOne(c, "leaves", c.second, nil)
	haproxytest.Until(t, "both are up", func() bool { return s.isUp(c, c.first) && s.isUp(c, c.second) })
	l := s.underLoad(c, 2)
	s.leave(c, "leaves", c.second)
	c.second.reset()
	time.Sleep(500 * time.Millisecond) // ten answers of the agent
	l.stop()
	if got := c.second.arrivals(); len(got) > 0 {
		t.Errorf("after it was called drained it got %q", got)
	}
	if l.failed.Load() > 0 {
		t.Errorf("%d of %d requests failed, first: %v", l.failed.Load(), l.sent.Load(), l.first.Load())
	}
	s.registerOne(c, "leaves", c.second, nil)
	haproxytest.Until(t, "it is up again, with its agent", func() bool {
		columns := s.columns(c.name, c.second.addr())
		return strings.HasPrefix(columns["status"], "UP") && columns["srv_agent_state"] >= "22"
	})
}

func TestAgentCheck_AgentDrains_IsNoDrift(t *testing.T) {
	t.Parallel()
	s := newOptionSite(t, []optionCase{{keyword: "agent", options: "agent-check agent-port ECHO agent-inter 50ms agent-send drain"}})
	c := s.services[0]
	s.registerOne(c, "one", c.first, nil)
	haproxytest.Until(t, "its agent has it drained", func() bool { return strings.HasPrefix(s.columns(c.name, c.first.addr())["status"], "DRAIN") })
	haproxytest.Until(t, "the sidecar says why", func() bool {
		for _, i := range s.agent.State().Services[0].Instances {
			if i.Waiting == "agent" {
				return true
			}
		}
		return false
	})
	time.Sleep(3 * time.Second) // a comparison of everything, and more
	if steps := strings.Count(s.log.String(), "server ready") + strings.Count(s.log.String(), "drift corrected"); steps > 1 {
		t.Errorf("the sidecar fights the agent:\n%s", s.log.String())
	}
}

func TestOperatorServer_InBackendExtra_IsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newOptionSite(t, []optionCase{{keyword: "sorry", lines: []string{"server sorry 127.0.0.1:9 backup", "server-template spare 2 127.0.0.1:9 disabled"}}})
	c := s.services[0]
	sorry := func() string {
		for row := range strings.Lines(s.haproxy.Command("show servers state " + c.name)) {
			if f := strings.Fields(row); len(f) > 6 && f[3] == "sorry" {
				return f[6]
			}
		}
		return "gone"
	}
	s.registerOne(c, "one", c.first, nil)
	haproxytest.Until(t, "the instance is up", func() bool { return s.isUp(c, c.first) })
	s.settled("the file is written")
	s.haproxy.Reload()
	s.settled("a reload is over")
	haproxytest.Until(t, "the instance is up again", func() bool { return s.isUp(c, c.first) })
	if got := sorry(); got != "0" {
		t.Errorf("admin state of the operator's server: got %s, want 0: ready", got)
	}
	bytes, err := os.ReadFile(s.haproxy.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(bytes), "server sorry "); n != 1 {
		t.Errorf("the operator's server is %d times in the file, want once", n)
	}
	if log := s.log.String(); strings.Contains(log, "server=sorry") || strings.Contains(log, "server=spare") {
		t.Errorf("the sidecar changed the operator's servers:\n%s", log)
	}
}

// A static algorithm refuses a weight at runtime: the server is made ready all
// the same, gets its weight by a reload, and the old one is released.
func TestStaticBalance_WeightFromConsul_ReadyAtOnceAndOldReleased(t *testing.T) {
	t.Parallel()
	for _, balance := range []string{"source", "static-rr", "uri"} {
		t.Run(balance, func(t *testing.T) {
			t.Parallel()
			s := newOptionSite(t, []optionCase{{keyword: balance, balance: balance}})
			c := s.services[0]
			s.registerOne(c, "old", c.first, nil)
			haproxytest.Until(t, "the old one is up", func() bool { return s.isUp(c, c.first) })
			c.weight = 10
			s.registerOne(c, "new", c.second, nil)
			haproxytest.Until(t, "the new one is up", func() bool { return s.isUp(c, c.second) })
			s.leave(c, "old", c.first)
			haproxytest.Until(t, "the new one has its weight", func() bool { return s.columns(c.name, c.second.addr())["srv_uweight"] == "10" })
			s.settled("all is settled")
			if n := strings.Count(s.log.String(), "] sidecar: reloaded"); n > 2 {
				t.Errorf("%d reloads, want one for the weight, perhaps one for a slot", n)
			}
		})
	}
}
