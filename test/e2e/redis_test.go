//go:build databases

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/lab"
)

// Two Redis are registered without roles, and HAProxy's check finds the master. In a
// failover by REPLICAOF, and after a crash, the clients' connections move to the new
// master. What was acknowledged is there, and nothing is sent to the old master once
// HAProxy has it down (issue 17, point 6).
func TestRedis_MasterMovesUnderLoad_OldMasterGetsNoWrite(t *testing.T) {
	w := bareWorld(t)
	site := newRedisSite(w)
	a, b := site.nodes[0], site.nodes[1]
	a.start()
	b.start()
	b.tell("REPLICAOF", a.host, a.port())
	a.register()
	b.register()
	site.serves(a)
	writers := site.write()
	writers.reach(50)

	// In order: the old master pauses its writers until the new one has all.
	a.tell("CLIENT", "PAUSE", "60000", "WRITE")
	w.must(lab.Until(w.ctx, 20*time.Second, "the new master has got all", func() error {
		if wrote, got := a.info("replication", "master_repl_offset"), b.info("replication", "slave_repl_offset"); wrote != got {
			return fmt.Errorf("%s of %s", got, wrote)
		}
		return nil
	}))
	a.tell("REPLICAOF", b.host, b.port())
	b.tell("REPLICAOF", "NO", "ONE")
	a.tell("CLIENT", "UNPAUSE")
	site.serves(b)
	w.must(lab.Until(w.ctx, 5*time.Second, "the writers' connections to the old master are closed", a.hasNoWriter))
	refused := a.refused()
	writers.reach(200)
	if got := a.refused() - refused; got > 0 {
		t.Errorf("the old master has refused %d writes since HAProxy had it down, want none", got)
	}
	t.Logf("the old master refused %d writes before HAProxy had it down", refused)

	// A crash: the other is promoted, and the old master comes back as its replica.
	w.must(b.process.Kill())
	a.tell("REPLICAOF", "NO", "ONE")
	site.serves(a)
	b.start("--replicaof", a.host+" "+a.port())
	writers.reach(200)
	if n := b.refused(); n > 0 {
		t.Errorf("the old master that came back has refused %d writes, want none", n)
	}

	acknowledged := writers.stop()
	missing := 0
	for key := range acknowledged {
		if value, err := a.do("GET", key); err != nil || value != key {
			missing++
		}
	}
	if missing > 0 || len(acknowledged) < 250 {
		t.Errorf("%d of %d acknowledged writes are lost", missing, len(acknowledged))
	}
	t.Logf("%d writes acknowledged, %d lost, %d attempts failed", len(acknowledged), missing, writers.failed.Load())
	if got := w.state().Reloads.Succeeded; got != 0 {
		t.Errorf("got %d reloads, want none", got)
	}
}

// redisSite is a load balancer in front of Redis, each with an address of its own.
type redisSite struct {
	*world
	program string
	at      int // the port of all
	nodes   []*redis
}

func newRedisSite(w *world) *redisSite {
	w.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		w.Fatal("needs redis-server: `make databases` installs Debian's package of that name")
	}
	s := &redisSite{world: w, program: program}
	s.at, err = w.Port()
	w.must(err)
	for i, name := range []string{"a", "b"} {
		s.nodes = append(s.nodes, &redis{redisSite: s, name: name, host: fmt.Sprintf("127.0.0.%d", i+2)})
	}
	// As on the page redis.
	w.newBalancer(lab.Service{Name: "redis", Extra: `    mode: tcp
    server_options: on-marked-down shutdown-sessions
    check: {inter: 500ms, fast_inter: 250ms, down_inter: 250ms, rise: 1, fall: 1}
    backend_extra: |
      option tcp-check
      tcp-check connect
      tcp-check send "info replication\r\n"
      tcp-check expect string role:master
`})
	w.must(w.lb.Start(w.ctx))
	return s
}

// serves waits until HAProxy has this one up and no other.
func (s *redisSite) serves(master *redis) {
	s.Helper()
	s.must(lab.Until(s.ctx, 30*time.Second, "HAProxy has found the master", func() error {
		servers, err := s.lb.Servers(s.ctx, "redis")
		var up []string
		for _, server := range servers {
			if server.Up {
				up = append(up, server.Addr)
			}
		}
		if len(up) != 1 || up[0] != master.addr() {
			err = errors.Join(err, fmt.Errorf("up are %v", up))
		}
		return err
	}))
}

// redis is one of them.
type redis struct {
	*redisSite
	name, host string
	process    *lab.Process
}

func (r *redis) port() string { return strconv.Itoa(r.at) }
func (r *redis) addr() string { return net.JoinHostPort(r.host, r.port()) }

func (r *redis) start(args ...string) {
	r.Helper()
	var err error
	r.process, err = r.Start("redis-"+r.name, r.program, append([]string{"--bind", r.host, "--port", r.port(), "--save", "", "--dir", r.Dir(), "--dbfilename", r.name + ".rdb", "--repl-diskless-sync-delay", "0"}, args...)...)
	r.must(err)
	r.must(lab.Until(r.ctx, 10*time.Second, r.name+" answers", func() error {
		_, err := r.do("PING")
		return err
	}))
}

func (r *redis) register() {
	r.Helper()
	r.must(r.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "redis-" + r.name, Name: "redis", Address: r.host, Port: r.at,
		Check: &api.AgentServiceCheck{TCP: r.addr(), Interval: "1s"},
	}))
}

// do sends one command to it, past the load balancer.
func (r *redis) do(words ...string) (string, error) {
	conn, err := dialRedis(r.ctx, r.addr())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.conn.Close() }()
	return conn.do(words...)
}

func (r *redis) tell(words ...string) string {
	r.Helper()
	answer, err := r.do(words...)
	r.must(err)
	return answer
}

// info returns one field of INFO; "" if it is not there.
func (r *redis) info(section, field string) string {
	r.Helper()
	for line := range strings.Lines(r.tell("INFO", section)) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), field+":"); found {
			return value
		}
	}
	return ""
}

// refused is how many writes it has refused because it is a replica.
func (r *redis) refused() (n int) {
	r.Helper()
	for field := range strings.SplitSeq(r.info("errorstats", "errorstat_READONLY"), ",") {
		if count, found := strings.CutPrefix(field, "count="); found {
			var err error
			n, err = strconv.Atoi(count)
			r.must(err)
		}
	}
	return n
}

// hasNoWriter reports the connections by which the writers reach it. HAProxy's checks have no name.
func (r *redis) hasNoWriter() error {
	if n := strings.Count(r.tell("CLIENT", "LIST"), "name=writer"); n > 0 {
		return fmt.Errorf("%d are left", n)
	}
	return nil
}

// redisRefusal is an error that Redis has answered; the connection is as good as before.
type redisRefusal string

func (r redisRefusal) Error() string { return string(r) }

// redisConn speaks Redis's protocol, as far as it is needed here.
type redisConn struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialRedis(ctx context.Context, addr string) (redisConn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return redisConn{}, err
	}
	return redisConn{conn, bufio.NewReader(conn)}, nil
}

// do sends a command and gives its answer: a line, a number or a text.
func (c redisConn) do(words ...string) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	request := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, word := range words {
		request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := c.conn.Write(request); err != nil {
		return "", err
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	switch line[0] {
	case '-':
		return "", redisRefusal(line[1:])
	case '$':
		size, err := strconv.Atoi(line[1:])
		if err != nil || size < 0 {
			return "", errors.Join(err, errors.New("no such key"))
		}
		text := make([]byte, size+len("\r\n"))
		_, err = io.ReadFull(c.in, text)
		return string(text[:size]), err
	}
	return line[1:], nil
}

// redisWriters write keys through the load balancer, and each again until a replica has it
// too. They keep their connections for as long as those last.
type redisWriters struct {
	site   *redisSite
	cancel context.CancelFunc
	all    sync.WaitGroup
	failed atomic.Int64

	mu   sync.Mutex
	keys map[string]bool // the acknowledged ones
}

func (s *redisSite) write() *redisWriters {
	ctx, cancel := context.WithCancel(s.ctx)
	w := &redisWriters{site: s, cancel: cancel, keys: map[string]bool{}}
	for i := range writerCount {
		w.all.Go(func() {
			var conn redisConn
			for n := i; ctx.Err() == nil; n += writerCount {
				key := "key" + strconv.Itoa(n)
				err := lab.Until(ctx, 2*time.Minute, key, func() (err error) {
					if conn, err = w.writeOne(ctx, conn, key); err != nil {
						w.failed.Add(1)
					}
					return err
				})
				if err != nil && ctx.Err() == nil {
					s.Error(err)
				}
			}
			if conn.conn != nil {
				_ = conn.conn.Close()
			}
		})
	}
	s.Cleanup(func() { w.stop() })
	return w
}

// writeOne writes a key to the master and waits until its replica has it.
func (w *redisWriters) writeOne(ctx context.Context, conn redisConn, key string) (_ redisConn, err error) {
	if conn.conn == nil {
		if conn, err = dialRedis(ctx, fmt.Sprintf("127.0.0.1:%d", w.site.lb.Services()[0].Port)); err != nil {
			return redisConn{}, err
		}
		_, err = conn.do("CLIENT", "SETNAME", "writer")
	}
	if err == nil {
		_, err = conn.do("SET", key, key)
	}
	var replicas string
	if err == nil {
		replicas, err = conn.do("WAIT", "1", "1000")
	}
	if err == nil && replicas == "0" {
		err = redisRefusal("no replica has it")
	}
	if errors.As(err, new(redisRefusal)) {
		return conn, err // as clients do: it is for the load balancer to end the connection
	}
	if err != nil {
		_ = conn.conn.Close()
		return redisConn{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[key] = true
	return conn, nil
}

// reach waits until more keys are acknowledged.
func (w *redisWriters) reach(more int) {
	w.site.Helper()
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.keys)
	}
	before := count()
	w.site.must(lab.Until(w.site.ctx, 30*time.Second, "keys are written", func() error {
		if got := count() - before; got < more {
			return fmt.Errorf("%d of %d", got, more)
		}
		return nil
	}))
}

// stop ends the writers and gives the acknowledged keys.
func (w *redisWriters) stop() map[string]bool {
	w.cancel()
	w.all.Wait()
	return w.keys
}
