package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/test/compat"
	"github.com/pointsman/pointsman/test/hostile"
	"github.com/pointsman/pointsman/test/lab"
)

// The third of three levels: see package hostile. Here a real Consul says what
// may be registered, and a real HAProxy what may be read.
func TestAHostileCatalogReachesHAProxyAsServersOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, "addresses: {allow: ["+hostile.Loopback+"]}")
	clients := w.load()
	w.fileIsCurrent()
	before := withoutServers(t, w.readConfig())
	frontends := w.frontends()

	legal := map[string]bool{}
	refused := 0
	for _, i := range hostile.Instances() {
		if err := w.registerHostile(i); err != nil {
			refused++
			continue
		}
		if i.Legal {
			legal[i.ID] = true
		}
	}
	compat.Consul(t, "hostile registrations that Consul itself refuses", fmt.Sprintf("%d of %d", refused, len(hostile.Instances())))
	if len(legal) < 50 {
		t.Fatalf("Consul has let in only %d: this proves nothing", len(legal))
	}

	// Nothing listens at their addresses: they come as servers and stay down.
	w.must(lab.Until(w.ctx, 60*time.Second, "HAProxy has the legal ones", func() error {
		known := map[string]bool{}
		for _, i := range w.state().Instances(service) {
			if i.Phase != "unknown" { // it has a server, and is not only to have one
				known[i.ID] = true
			}
		}
		var missing []error
		for id := range legal {
			if !known[id] {
				missing = append(missing, fmt.Errorf("%.40q has no server", id))
			}
		}
		return errors.Join(missing...)
	}))
	w.fileIsCurrent()
	compat.HAProxy(t, "more new servers than there are slots", map[bool]string{
		true: "are added without a reload", false: "take a reload, by which the file gets more slots",
	}[w.state().Reloads.Succeeded == 0])

	file := w.readConfig()
	if after := withoutServers(t, file); after != before {
		t.Errorf("more of haproxy.cfg than its servers has changed:\n%s", after)
	}
	if out, err := exec.CommandContext(w.ctx, programs.HAProxy, "-c", "-f", w.lb.Config()).CombinedOutput(); err != nil {
		t.Errorf("HAProxy rejects the file: %v\n%s", err, out)
	}
	w.namesAreLegal("show servers state api_nodes")
	if got := w.frontends(); got != frontends {
		t.Errorf("frontends: got\n%s\nwant\n%s", got, frontends)
	}
	w.tellsOfWhatWasLeftOut()
	for _, n := range w.nodes {
		if !w.isUp(n.Name) {
			t.Errorf("%s is not up among them", n.Name)
		}
	}
	w.mustLoseNothing(clients)
}

func (w *world) registerHostile(i hostile.Instance) error {
	address := i.NodeAddress
	if address == "" {
		address = "127.0.0.1" // a real Consul wants one
	}
	_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
		Node: i.Node, Address: address,
		Service: &api.AgentService{Kind: api.ServiceKind(i.Kind), ID: i.ID, Service: service, Address: i.Address, Port: i.Port, Tags: i.Tags, Meta: i.Meta},
	}, nil)
	return err
}

func (w *world) readConfig() string {
	w.Helper()
	content, err := os.ReadFile(w.lb.Config())
	w.must(err)
	return string(content)
}

func (w *world) fileIsCurrent() {
	w.Helper()
	w.must(lab.Until(w.ctx, 10*time.Second, "the file is current", func() error {
		if s := w.state(); !s.File.Current {
			return fmt.Errorf("%+v", s.File)
		}
		return nil
	}))
}

func (w *world) isUp(id string) bool {
	for _, i := range w.state().Instances(service) {
		if i.ID == id && i.Phase == "up" {
			return true
		}
	}
	return false
}

var legalName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.:-]{0,63}$`)

// withoutServers is a file without its server lines, each of which must have a
// legal name and a literal address. The marker stays: a reload for what was
// registered would not change it.
func withoutServers(t *testing.T, file string) string {
	t.Helper()
	var rest strings.Builder
	for line := range strings.Lines(file) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "server" {
			rest.WriteString(line)
			continue
		}
		if len(words) < 3 || !legalName.MatchString(words[1]) {
			t.Errorf("haproxy.cfg has %q", line)
			continue
		}
		if _, err := netip.ParseAddrPort(words[2]); err != nil || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			t.Errorf("haproxy.cfg has %q: %v", line, err)
		}
	}
	return rest.String()
}

// namesAreLegal looks at the servers that HAProxy runs.
func (w *world) namesAreLegal(command string) {
	w.Helper()
	out, err := w.lb.Runtime(w.ctx, command)
	w.must(err)
	count := 0
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 5 || words[0] == "#" {
			continue
		}
		count++
		if !legalName.MatchString(words[3]) {
			w.Errorf("HAProxy runs a server %q", words[3])
		}
		if _, err := netip.ParseAddr(words[4]); err != nil {
			w.Errorf("HAProxy runs %s at %q", words[3], words[4])
		}
	}
	if count < 50 {
		w.Errorf("HAProxy runs %d servers only:\n%s", count, out)
	}
}

// frontends tells of HAProxy's frontends, and whether they are open.
func (w *world) frontends() string {
	w.Helper()
	out, err := w.lb.Runtime(w.ctx, "show stat -1 1 -1")
	w.must(err)
	var b strings.Builder
	for line := range strings.Lines(out) {
		if fields := strings.Split(line, ","); len(fields) > 17 {
			fmt.Fprintln(&b, fields[0], fields[17])
		}
	}
	return b.String()
}

// tellsOfWhatWasLeftOut: in the log, one line each, and in the metrics; and
// what is published stays well-formed.
func (w *world) tellsOfWhatWasLeftOut() {
	w.Helper()
	begins := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ \[[A-Z]+\] `)
	leftOut := 0
	for line := range strings.Lines(w.lb.Sidecar.Tail(5000)) {
		if !begins.MatchString(line) || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unicode.IsControl) {
			w.Errorf("logged: %q", line)
		}
		if strings.Contains(line, "invalid instance ignored") {
			leftOut++
		}
	}
	if leftOut < 20 {
		w.Errorf("%d instances are reported as left out, want 20 or more", leftOut)
	}
	text, err := w.lb.Metrics(w.ctx)
	w.must(err)
	for line := range strings.Lines(text) {
		if strings.Contains(line, hostile.Payload) {
			w.Errorf("metrics: %q", line)
		}
	}
	var state json.RawMessage
	body, err := w.lb.StateJSON(w.ctx)
	w.must(err)
	if err := json.Unmarshal(body, &state); err != nil {
		w.Errorf("the state is no JSON: %v", err)
	}
}
