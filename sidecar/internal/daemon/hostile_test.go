package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/test/hostile"
	"github.com/pointsman/pointsman/test/proctest"
)

// between is a whole sidecar between a Consul and an HAProxy that are fakes and
// keep all that they are sent.
type between struct {
	t       *testing.T
	dir     string
	consul  *consultest.Fake
	haproxy *haproxytest.Fake
	daemon  *Daemon
	log     proctest.Output
}

// Each file that is to be judged is kept, by the command that judges it.
const keepEachFile = `
name: lb0
consul: {address: %q}
haproxy:
  socket: %q
  master_socket: %q
  config: "%s/haproxy.cfg"
  global: {user: "", group: "", chroot: "", stats_socket_group: ""}
  check_command: [/bin/sh, -c, "cp \"$1\" \"$2/written.$$\"", check, "{file}", %q]
services: [{name: api, bind: "127.0.0.1:80", check: {enabled: false}, agent_check: {from_meta: true}}]
addresses: {allow: [127.0.0.0/8]} # hostile.Loopback
reload: {debounce: 10ms, max_delay: 10ms, min_interval: 0s}
api: {address: "127.0.0.1:0"}
`

func newBetween(t *testing.T, profile haproxytest.Profile) *between {
	t.Helper()
	b := &between{t: t, dir: t.TempDir(), consul: consultest.NewFake(t)}
	b.haproxy = haproxytest.NewFake(t, profile, &haproxytest.FakeBackend{Name: "api"})
	b.haproxy.OnReload(func(haproxytest.FakeWorker) (*haproxytest.FakeWorker, string) { return b.loads(), "" })
	settings := fmt.Sprintf(keepEachFile, b.consul.Address(), b.haproxy.Runtime(), b.haproxy.Master(), b.dir, b.dir)
	reload := func() (config.Config, error) {
		return config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(settings), nil }})
	}
	cfg, err := reload()
	if err != nil {
		t.Fatal(err)
	}
	if b.daemon, err = New(t.Context(), cfg, Options{Adopt: true, Log: &b.log, Version: "test", Reload: reload}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.daemon.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Logf("the sidecar's log:\n%.20000s", b.log.String())
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the sidecar does not end")
		}
	})
	return b
}

// loads is a worker that runs what haproxy.cfg says.
func (b *between) loads() *haproxytest.FakeWorker {
	content, err := os.ReadFile(filepath.Join(b.dir, "haproxy.cfg"))
	if err != nil {
		b.t.Error(err)
	}
	w := &haproxytest.FakeWorker{Marker: regexp.MustCompile(`setenv \w+ (\S+)`).FindStringSubmatch(string(content))[1]}
	for name, servers := range serversIn(b.t, string(content)) {
		backend := &haproxytest.FakeBackend{Name: name}
		for _, s := range servers {
			backend.Servers = append(backend.Servers, &haproxytest.FakeServer{
				Name: s.Name, Addr: s.Addr, Weight: s.Weight, MaxConn: s.MaxConn, Backup: s.Backup, Maint: s.Disabled, Disabled: s.Disabled, Up: !s.Disabled,
				Agent: true, AgentPort: max(s.AgentPort, plan.NoAgentPort),
			})
		}
		w.Backends = append(w.Backends, backend)
	}
	return w
}

func (b *between) register(i hostile.Instance) {
	b.t.Helper()
	client, err := api.NewClient(&api.Config{Address: b.consul.Address(), Scheme: "http"})
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = client.Catalog().Register(&api.CatalogRegistration{
		Node: i.Node, Address: i.NodeAddress,
		Service: &api.AgentService{Kind: api.ServiceKind(i.Kind), ID: i.ID, Service: "api", Address: i.Address, Port: i.Port, Tags: i.Tags, Meta: i.Meta},
	}, nil)
	if err != nil {
		b.t.Fatalf("%s: %v", i.Why, err)
	}
}

// serves waits until n servers are up.
func (b *between) serves(count int) {
	b.t.Helper()
	haproxytest.Until(b.t, fmt.Sprintf("%d instances are up", count), func() bool {
		up := 0
		for _, s := range b.daemon.agent.State().Services {
			for _, i := range s.Instances {
				if i.Phase == "up" {
					up++
				}
			}
		}
		return up == count
	})
}

func (b *between) fileIsCurrent() {
	b.t.Helper()
	haproxytest.Until(b.t, "the file is current", func() bool { return b.daemon.agent.State().File.Current })
}

// written returns every file that was to be judged, in no order.
func (b *between) written() (files []string) {
	b.t.Helper()
	paths, err := filepath.Glob(filepath.Join(b.dir, "written.*"))
	if err != nil || len(paths) == 0 {
		b.t.Fatalf("no file was written: %v", err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			b.t.Fatal(err)
		}
		files = append(files, string(content))
	}
	return files
}

const (
	serverName = `[A-Za-z0-9_-][A-Za-z0-9_.:-]{0,63}`
	agentWords = `agent-check agent-inter 500ms agent-port 9`
	ipAndPort  = `(?:[0-9.]+|\[[0-9a-f:]+\]):[0-9]{1,5}`
)

// sendable are all the commands that a sidecar of one service may send.
var sendable = regexp.MustCompile(`^(?:@(?:1|!\d+) )?(?:show info|show env POINTSMAN_MARK|show proc|reload` +
	`|show servers state api|show stat (?:api|\d+) 6 -1` +
	`|add server api/` + serverName + ` ` + ipAndPort + ` pool-purge-delay 1s ` + agentWords + ` weight \d+(?: maxconn \d+)?(?: backup)?` +
	`|set server api/` + serverName + ` (?:state (?:ready|drain|maint)|weight \d+%?|agent up|agent-port \d{1,5}|health (?:up|down|stopping)|addr [0-9a-f.:]+ port \d+)` +
	`|set maxconn server api/` + serverName + ` \d+|enable health api/` + serverName + `|(?:en|dis)able agent api/` + serverName +
	`|wait 500ms srv-removable api/` + serverName + `|del server api/` + serverName + `)$`)

// writable is a server's line.
var writable = regexp.MustCompile(`^    server ` + serverName + ` ` + ipAndPort + ` pool-purge-delay 1s ` + agentWords + `(?: agent-port \d{1,5})? weight \d+(?: maxconn \d+)?(?: backup)?(?: disabled)?\n$`)

// The second of three levels: see package hostile.
func TestOfAHostileCatalogNothingButCheckedValuesIsSentOrWritten(t *testing.T) {
	for _, profile := range []haproxytest.Profile{haproxytest.V26, haproxytest.V34} {
		t.Run(profile.Version, func(t *testing.T) {
			t.Parallel()
			b := newBetween(t, profile)
			b.register(hostile.Instance{Node: "good", NodeAddress: "127.0.0.1", ID: "good", Port: 81})
			b.serves(1)
			b.fileIsCurrent()
			frame := frameOf(t, b.written()[0])

			legal := 1
			for _, i := range hostile.Instances() {
				b.register(i)
				if i.Legal {
					legal++
				}
			}
			b.serves(legal)
			b.fileIsCurrent()

			for _, command := range slices.Concat(b.haproxy.Commands(), commandsOf(b.haproxy.Lines())) {
				if !sendable.MatchString(command) {
					t.Errorf("sent: %q", command)
				}
			}
			for _, file := range b.written() {
				if diff := cmp.Diff(frame, frameOf(t, file)); diff != "" {
					t.Errorf("more of the file than its servers has changed (-before +after):\n%s", diff)
				}
			}
			b.logIsWellFormed()
		})
	}
}

func commandsOf(lines []string) (commands []string) {
	for _, line := range lines {
		commands = append(commands, strings.Split(line, "; ")...)
	}
	return commands
}

// frameOf is a file without its servers, which are checked.
func frameOf(t *testing.T, file string) string {
	t.Helper()
	var frame strings.Builder
	addrs := map[netip.AddrPort]bool{}
	for line := range strings.Lines(file) {
		if !strings.HasPrefix(strings.TrimSpace(line), "server") {
			frame.WriteString(line)
			continue
		}
		if !writable.MatchString(line) {
			t.Errorf("written: %q", line)
			continue
		}
		addrs[netip.MustParseAddrPort(strings.Fields(line)[2])] = true
	}
	return frame.String()
}

// logIsWellFormed: no line of the log is text that a client has registered.
func (b *between) logIsWellFormed() {
	b.t.Helper()
	begins := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ \[[A-Z]+\] `)
	for line := range strings.Lines(b.log.String()) {
		if !begins.MatchString(line) || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			b.t.Errorf("logged: %q", line)
		}
	}
}
