package consul_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/compat"
)

func TestTokenIsRereadAndNeverShown(t *testing.T) {
	f := consultest.NewFake(t)
	path := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-secret\n")
	w := start(t, f.Address(), consul.Options{TokenFile: path, Token: "never-used"})
	w.await("empty service", are())
	if got := f.Tokens()[0]; got != "first-secret" {
		t.Errorf("token = %q, want that of the file", got)
	}
	write("second-secret")
	f.Break(consultest.Denied())
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if strings.Contains(h.Err.Error(), "secret") {
		t.Errorf("error = %q, which shows the token", h.Err)
	}
	f.Mend()
	w.awaitHealth("answer", func(h catalog.SourceHealth) bool { return h.Err == nil })
	if got := f.Tokens(); got[len(got)-1] != "second-secret" {
		t.Errorf("last token = %q, want the new one", got[len(got)-1])
	}
	// The file is gone: what was read last is used on.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	asked := len(f.Tokens())
	f.Touch("web")
	for over := time.Now().Add(deadline); len(f.Tokens()) == asked; time.Sleep(time.Millisecond) {
		if time.Now().After(over) {
			t.Fatal("no query without the file")
		}
	}
	if got := f.Tokens()[asked]; got != "second-secret" {
		t.Errorf("token without its file = %q, want the last", got)
	}
}

func TestMissingTokenFileIsAnErrorThatNamesIt(t *testing.T) {
	f := consultest.NewFake(t)
	path := filepath.Join(t.TempDir(), "token")
	w := start(t, f.Address(), consul.Options{TokenFile: path, Token: "never-used"})
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), path) {
		t.Errorf("error = %q, want the path in it", h.Err)
	}
	if got := f.Requests(); len(got) > 0 {
		t.Errorf("requests = %q, want none without the token", got)
	}
}

// aclConsul denies everything to those without a token.
func aclConsul(t *testing.T) string {
	t.Helper()
	management := "initial_management"
	if consultest.IsOld(t) {
		management = "master" // its name before 1.11
	}
	return fmt.Sprintf(`acl { enabled = true, default_policy = "deny", tokens { %s = %q, agent = %[2]q } }`, management, "11111111-2222-3333-4444-555555555555")
}

func TestAnswerThatAnACLHasEmptiedTakesNothingAway(t *testing.T) {
	const management = "11111111-2222-3333-4444-555555555555"
	p := consultest.StartProcess(t, aclConsul(t))
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(management), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, p.Address(), consul.Options{TokenFile: path, WaitTime: time.Second})
	agent, err := api.NewClient(&api.Config{Address: p.Address(), Token: management})
	if err != nil {
		t.Fatal(err)
	}
	w.agent = agent
	w.register("a")
	w.await("one", are("a=passing"))
	blind, _, err := agent.ACL().TokenCreate(&api.ACLToken{Description: "may read nothing"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(blind.SecretID), 0o600); err != nil {
		t.Fatal(err)
	}
	const fact = "an answer that ACLs have emptied can be told from an empty one"
	if consultest.IsOld(t) {
		// Nothing in the answer says so: the header is of 1.11.
		w.await("an empty service", are())
		compat.Consul(t, fact, "no")
		return
	}
	compat.Consul(t, fact, "yes")
	h := w.awaitHealth("error", func(h catalog.SourceHealth) bool { return h.Err != nil })
	if !strings.Contains(h.Err.Error(), "ACL") || strings.Contains(h.Err.Error(), blind.SecretID) {
		t.Errorf("error = %q, want it to speak of the ACL and not to show the token", h.Err)
	}
	if !are("a=passing")(w.Snapshot()) {
		t.Errorf("servers = %q, want a still", servers(w.Snapshot()))
	}
}
