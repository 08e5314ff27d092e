//go:build databases

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/jackc/pgx/v5"

	"github.com/pointsman/pointsman/test/lab"
)

// Three PostgreSQLs with synchronous replication, registered as Patroni registers
// them, and clients that write numbered rows through the load balancer and try again.
// The primary moves in three ways: in order, while it stays alive and writable, and by
// a crash. No committed row is lost, and no write reaches a primary that Consul no
// longer lists as one (issue 17, point 6).
func TestPostgres_PrimaryMovesUnderLoad_NoCommittedRowLost(t *testing.T) {
	dir := postgresDir(t)
	w := bareWorld(t)
	site := newPostgresSite(w, dir)
	a, b, c := site.nodes[0], site.nodes[1], site.nodes[2]
	a.init()
	a.start("")
	b.copyOf(a)
	c.copyOf(a)
	b.start(a.conninfo())
	c.start(a.conninfo())
	a.exec("create table rows (n bigint primary key)") // which a standby must have got
	a.register("primary")
	b.register("replica")
	c.register("replica")
	site.serves("pg-primary", a)
	site.serves("pg-replica", b, c)
	writers := site.write()
	writers.reach(a, 50)

	site.switchover(writers, a, b, c)
	t.Logf("switchover: %s without a commit", writers.pause())
	site.demotion(writers, b, a, c)
	t.Logf("demotion: %s without a commit", writers.pause())
	site.crash(writers, a, b, c)
	t.Logf("crash: %s without a commit", writers.pause())

	acknowledged := writers.stop()
	var last *postgres
	for _, n := range site.nodes {
		if n.process.Running() && n.number("select pg_is_in_recovery()::int::bigint") == 0 {
			last = n
		}
	}
	missing, have := 0, last.rows()
	for n := range acknowledged {
		if !have[n] {
			missing++
		}
	}
	if missing > 0 || len(acknowledged) < 250 {
		t.Errorf("%d of %d committed rows are lost", missing, len(acknowledged))
	}
	t.Logf("%d rows committed, %d lost, %d attempts failed", len(acknowledged), missing, writers.failed.Load())
	if got := w.state().Reloads.Succeeded; got != 0 {
		t.Errorf("got %d reloads, want none", got)
	}
}

// switchover moves the primary in order, as Patroni does: the old one stops, which takes it
// out of Consul, and comes back as a replica.
func (s *postgresSite) switchover(writers *postgresWriters, old, next, other *postgres) {
	s.Helper()
	s.must(s.consul.Client.Agent().ServiceDeregister(old.id()))
	old.stop()
	next.promote()
	other.follow(next)
	next.register("primary")
	writers.reach(next, 50)
	old.start(next.conninfo())
	old.register("replica")
	s.serves("pg-primary", next)
	s.serves("pg-replica", old, other)
}

// demotion moves the primary while the old one takes writes, as one does that is cut off
// from what decides about roles. Its check says that it is the primary. Consul's word alone
// keeps the writers away.
func (s *postgresSite) demotion(writers *postgresWriters, old, next, other *postgres) {
	s.Helper()
	began := time.Now()
	old.register("replica")
	s.must(lab.Until(s.ctx, 10*time.Second, "the connections to the old primary are closed", func() error {
		if n := old.number("select count(*) from pg_stat_activity where application_name = 'writer'"); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	}))
	s.Logf("the old primary was without connections %s after its tag had changed", time.Since(began).Round(time.Millisecond))
	rows, acknowledged, failed := old.number("select count(*) from rows"), writers.by(old), writers.failed.Load()
	s.must(lab.Until(s.ctx, 30*time.Second, "the writers try", func() error {
		if n := writers.failed.Load() - failed; n < 100 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	}))
	other.follow(next)
	next.reaches(old.written())
	next.promote()
	old.exec("alter system set synchronous_standby_names = ''") // it has no standby, and would wait for one
	old.exec("select pg_reload_conf()")
	next.register("primary")
	writers.reach(next, 100)
	old.exec("create table still_writable ()")
	if got := old.number("select count(*) from rows"); got != rows || writers.by(old) != acknowledged {
		s.Errorf("the old primary has got %d rows and acknowledged %d since it lost its role, want none", got-rows, writers.by(old)-acknowledged)
	}
	old.stop()
	old.rewind(next)
	old.start(next.conninfo())
	s.serves("pg-primary", next)
	s.serves("pg-replica", old, other)
}

// crash kills the primary, which stays in Consul as one. The standby that has got more takes
// its place.
func (s *postgresSite) crash(writers *postgresWriters, old, next, other *postgres) {
	s.Helper()
	s.must(old.process.Kill())
	next.isAlone()
	other.isAlone()
	if next.received() < other.received() {
		next, other = other, next
	}
	next.promote()
	other.follow(next)
	next.register("primary")
	writers.reach(next, 50)
}

// postgresSite is a load balancer in front of PostgreSQLs, each with an address of
// its own and one port for all, as on machines of their own.
type postgresSite struct {
	*world
	bin, dir   string // of PostgreSQL's programs, and of the data
	port, rest int
	nodes      []*postgres
}

func newPostgresSite(w *world, dir string) *postgresSite {
	w.Helper()
	s := &postgresSite{world: w, bin: postgresPrograms(w.T), dir: dir}
	var err error
	for _, port := range []*int{&s.port, &s.rest} {
		*port, err = w.Port()
		w.must(err)
	}
	for i, name := range []string{"a", "b", "c"} {
		s.nodes = append(s.nodes, &postgres{postgresSite: s, name: name, host: fmt.Sprintf("127.0.0.%d", i+2)})
	}
	for _, n := range s.nodes {
		n.answerRole()
	}
	// As on the page primary-replica.
	const settings = `    mode: tcp
    tags: [%s]
    server_options: port %d on-marked-down shutdown-sessions
    backend_extra: |
      option httpchk GET /%[1]s
      http-check expect status 200
`
	w.newBalancer(
		lab.Service{Name: "pg", Backend: "pg-primary", Extra: fmt.Sprintf(settings, "primary", s.rest) + "    close_on_role_change: true\n"},
		lab.Service{Name: "pg", Backend: "pg-replica", Extra: fmt.Sprintf(settings, "replica", s.rest) + "    balance: leastconn\n"},
	)
	w.must(w.lb.Start(w.ctx))
	return s
}

// serves waits until a backend has exactly these up.
func (s *postgresSite) serves(backend string, nodes ...*postgres) {
	s.Helper()
	s.must(lab.Until(s.ctx, 30*time.Second, backend+" has its servers", func() error {
		servers, err := s.lb.Servers(s.ctx, backend)
		up := map[string]bool{}
		for _, server := range servers {
			if server.Up {
				up[server.Addr] = true
			}
		}
		for _, n := range nodes {
			if !up[n.addr()] {
				err = errors.Join(err, fmt.Errorf("%s is not up", n.name))
			}
		}
		if len(up) != len(nodes) {
			err = errors.Join(err, fmt.Errorf("up are %v", up))
		}
		return err
	}))
}

// postgres is one of them, with what Patroni answers about its role.
type postgres struct {
	*postgresSite
	name, host string
	process    *lab.Process
}

func (p *postgres) id() string   { return "pg/" + p.name }
func (p *postgres) addr() string { return net.JoinHostPort(p.host, strconv.Itoa(p.port)) }
func (p *postgres) data() string { return filepath.Join(p.dir, p.name) }

func (p *postgres) conninfo() string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres connect_timeout=5", p.host, p.port)
}

// command returns a command of PostgreSQL. Its programs refuse to run as root.
func (p *postgres) command(program string, args ...string) []string {
	command := append([]string{filepath.Join(p.bin, program)}, args...)
	if os.Getuid() == 0 {
		command = append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL", "--"}, command...)
	}
	return command
}

func (p *postgres) run(program string, args ...string) {
	p.Helper()
	command := p.command(program, args...)
	cmd := exec.CommandContext(p.ctx, command[0], command[1:]...)
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Fatalf("%s: %v: %s", program, err, out)
	}
}

func (p *postgres) init() {
	p.Helper()
	p.run("initdb", "--pgdata="+p.data(), "--username=postgres", "--auth=trust", "--no-sync", "--locale=C")
	hba := "host all all 127.0.0.0/8 trust\nhost replication all 127.0.0.0/8 trust\n"
	p.must(os.WriteFile(filepath.Join(p.data(), "pg_hba.conf"), []byte(hba), 0o644))
	p.must(os.WriteFile(filepath.Join(p.data(), "postgresql.conf"), []byte("synchronous_standby_names = 'ANY 1 (*)'\n"), 0o644))
}

func (p *postgres) copyOf(primary *postgres) {
	p.Helper()
	p.run("pg_basebackup", "--pgdata="+p.data(), "--dbname="+primary.conninfo(), "--checkpoint=fast", "--no-sync")
}

// rewind makes a stopped one a copy of the primary again, whatever it has written since
// they parted.
func (p *postgres) rewind(primary *postgres) {
	p.Helper()
	primary.exec("checkpoint") // its file has the old timeline until then
	p.run("pg_rewind", "--target-pgdata="+p.data(), "--source-server="+primary.conninfo(), "--no-sync")
}

// start starts it, as a standby of the primary at a conninfo or as the primary. A commit is
// acknowledged once one standby has it. What the operating system has outlasts all that
// happens here, so nothing is synced to a disk.
func (p *postgres) start(primary string) {
	p.Helper()
	signal := filepath.Join(p.data(), "standby.signal")
	if primary != "" {
		p.setPrimary(primary)
		p.must(os.WriteFile(signal, nil, 0o644))
	}
	args := []string{"-D", p.data(), "-p", strconv.Itoa(p.port)}
	for _, setting := range []string{
		"listen_addresses=" + p.host, "unix_socket_directories=",
		"wal_log_hints=on", "wal_keep_size=64MB", "hot_standby=on", "fsync=off", "autovacuum=off", "shared_buffers=16MB", "max_connections=40",
	} {
		args = append(args, "-c", setting)
	}
	command := p.command("postgres", args...)
	var err error
	p.process, err = p.Start("postgres-"+p.name, command[0], command[1:]...)
	p.must(err)
	p.must(lab.Until(p.ctx, 30*time.Second, p.name+" answers", func() error {
		if !p.process.Running() {
			return fmt.Errorf("it has ended:\n%s", p.process.Tail(10))
		}
		_, err := p.ask(p.ctx, "select 1")
		return err
	}))
}

func (p *postgres) setPrimary(conninfo string) {
	p.Helper()
	p.must(os.WriteFile(filepath.Join(p.data(), "postgresql.auto.conf"), fmt.Appendf(nil, "primary_conninfo = '%s application_name=%s'\n", conninfo, p.name), 0o644))
}

// follow makes a running standby one of another primary.
func (p *postgres) follow(primary *postgres) {
	p.Helper()
	p.setPrimary(primary.conninfo())
	p.must(p.process.Signal(syscall.SIGHUP))
}

// stop stops it in order: clients are cut off, and the standbys get all that is written.
func (p *postgres) stop() {
	p.Helper()
	p.must(p.process.Signal(syscall.SIGINT))
	p.must(p.process.Wait(30 * time.Second))
}

func (p *postgres) promote() {
	p.Helper()
	p.exec("select pg_promote()")
	p.must(lab.Until(p.ctx, 30*time.Second, p.name+" is the primary", func() error {
		if in, err := p.ask(p.ctx, "select pg_is_in_recovery()::int::bigint"); err != nil || in != 0 {
			return errors.Join(err, errors.New("it is in recovery"))
		}
		return nil
	}))
}

// register registers it as Patroni does (patroni/dcs/consul.py): one service, an ID of
// scope and name, the role as a tag, and Patroni's own answer about the role as the check.
func (p *postgres) register(role string) {
	p.Helper()
	tags := []string{role}
	if role == "primary" {
		tags = append(tags, "master")
	}
	p.must(p.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: p.id(), Name: "pg", Address: p.host, Port: p.port, Tags: tags, EnableTagOverride: true,
		Check: &api.AgentServiceCheck{HTTP: "http://" + net.JoinHostPort(p.host, strconv.Itoa(p.rest)) + "/" + role, Interval: "1s"},
	}))
}

// answerRole answers as Patroni does: 200 to GET /primary or /replica if that is its role.
func (p *postgres) answerRole() {
	p.Helper()
	listener, err := (&net.ListenConfig{}).Listen(p.ctx, "tcp", net.JoinHostPort(p.host, strconv.Itoa(p.rest)))
	p.must(err)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(out http.ResponseWriter, req *http.Request) {
		recovers, err := p.ask(req.Context(), "select pg_is_in_recovery()::int::bigint")
		role := "/primary"
		if recovers == 1 {
			role = "/replica"
		}
		if err != nil || req.URL.Path != role {
			out.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	go func() { _ = server.Serve(listener) }() // until the test ends
	p.Cleanup(func() { _ = server.Close() })
}

// connect connects to it, past the load balancer.
func (p *postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgx.Connect(ctx, p.conninfo())
}

// ask returns the number that a query gives.
func (p *postgres) ask(ctx context.Context, query string) (n int64, err error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	return n, conn.QueryRow(ctx, query).Scan(&n)
}

func (p *postgres) number(query string) int64 {
	p.Helper()
	n, err := p.ask(p.ctx, query)
	p.must(err)
	return n
}

func (p *postgres) exec(command string) {
	p.Helper()
	conn, err := p.connect(p.ctx)
	p.must(err)
	defer func() { _ = conn.Close(p.ctx) }()
	_, err = conn.Exec(p.ctx, command)
	p.must(err)
}

// rows are all that it has.
func (p *postgres) rows() map[int64]bool {
	p.Helper()
	conn, err := p.connect(p.ctx)
	p.must(err)
	defer func() { _ = conn.Close(p.ctx) }()
	result, err := conn.Query(p.ctx, "select n from rows")
	p.must(err)
	list, err := pgx.CollectRows(result, pgx.RowTo[int64])
	p.must(err)
	all := make(map[int64]bool, len(list))
	for _, n := range list {
		all[n] = true
	}
	return all
}

// written is how far a primary has written, received how far a standby has got that.
func (p *postgres) written() int64 {
	p.Helper()
	return p.number("select (pg_current_wal_lsn() - '0/0')::bigint")
}

func (p *postgres) received() int64 {
	p.Helper()
	return p.number("select (pg_last_wal_receive_lsn() - '0/0')::bigint")
}

// reaches waits until a standby has all that a primary has written.
func (p *postgres) reaches(written int64) {
	p.Helper()
	p.must(lab.Until(p.ctx, 30*time.Second, p.name+" has got all", func() error {
		if got := p.received(); got < written {
			return fmt.Errorf("%d of %d", got, written)
		}
		return nil
	}))
}

// isAlone waits until a standby has lost its primary: nothing comes any more.
func (p *postgres) isAlone() {
	p.Helper()
	p.must(lab.Until(p.ctx, 30*time.Second, p.name+" has lost its primary", func() error {
		if p.number("select count(*) from pg_stat_wal_receiver where status = 'streaming'") > 0 {
			return errors.New("it receives")
		}
		return nil
	}))
}

// postgresWriters write numbered rows through the load balancer. Each keeps its
// connection for as long as that lasts, and writes a row again until it is committed.
type postgresWriters struct {
	site   *postgresSite
	cancel context.CancelFunc
	all    sync.WaitGroup
	failed atomic.Int64

	mu      sync.Mutex
	rows    map[int64]string // the committed ones, and at which address
	last    time.Time
	longest time.Duration // without a commit
}

const writerCount = 4

func (s *postgresSite) write() *postgresWriters {
	ctx, cancel := context.WithCancel(s.ctx)
	w := &postgresWriters{site: s, cancel: cancel, rows: map[int64]string{}, last: time.Now()}
	for i := range int64(writerCount) {
		w.all.Go(func() {
			var conn *pgx.Conn
			defer func() {
				if conn != nil {
					_ = conn.Close(context.WithoutCancel(ctx))
				}
			}()
			for n := i; ctx.Err() == nil; n += writerCount {
				err := lab.Until(ctx, 2*time.Minute, fmt.Sprintf("row %d", n), func() (err error) {
					conn, err = w.writeOne(ctx, conn, n)
					return err
				})
				if err != nil && ctx.Err() == nil {
					s.Error(err)
					return
				}
			}
		})
	}
	s.Cleanup(func() { w.stop() })
	return w
}

// writeOne writes a row. Where its connection has ended it connects again; one that
// failed is not used again.
func (w *postgresWriters) writeOne(ctx context.Context, conn *pgx.Conn, n int64) (_ *pgx.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if conn == nil {
		conn, err = pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres application_name=writer", w.site.lb.Services()[0].Port))
	}
	var at string
	if err == nil {
		// The row may be there: a commit whose acknowledgement was lost.
		err = conn.QueryRow(ctx, "insert into rows values ($1) on conflict (n) do update set n = excluded.n returning host(inet_server_addr())", n).Scan(&at)
	}
	if err != nil {
		w.failed.Add(1)
		if conn != nil {
			_ = conn.Close(ctx)
		}
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows[n] = at
	w.longest = max(w.longest, time.Since(w.last))
	w.last = time.Now()
	return conn, nil
}

// by is how many rows one of them has committed for the writers.
func (w *postgresWriters) by(p *postgres) (count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range w.rows {
		if at == p.host {
			count++
		}
	}
	return count
}

// pause returns the longest time without a commit since the last call.
func (w *postgresWriters) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := w.longest
	w.longest = 0
	return longest.Round(time.Millisecond)
}

// reach waits until one of them has committed more rows.
func (w *postgresWriters) reach(p *postgres, more int) {
	w.site.Helper()
	before := w.by(p)
	w.site.must(lab.Until(w.site.ctx, 30*time.Second, "rows are written to "+p.name, func() error {
		if got := w.by(p) - before; got < more {
			return fmt.Errorf("%d of %d", got, more)
		}
		return nil
	}))
}

// stop ends the writers and gives the committed rows.
func (w *postgresWriters) stop() map[int64]string {
	w.cancel()
	w.all.Wait()
	return w.rows
}

// postgresPrograms is the directory of PostgreSQL's programs: Debian has them beside each
// version, not on PATH.
func postgresPrograms(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		t.Fatal(err)
	}
	if program, err := exec.LookPath("postgres"); err == nil && len(found) == 0 {
		found = []string{program}
	}
	if len(found) == 0 {
		t.Fatal("needs PostgreSQL's server: `make databases` installs Debian's package postgresql")
	}
	program, err := filepath.EvalSymlinks(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(program)
}

// postgresDir is a directory for their data, which is PostgreSQL's user's.
func postgresDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pm-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Getuid() == 0 {
		if out, err := exec.CommandContext(t.Context(), "chown", "postgres:postgres", dir).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	return dir
}
