package deploy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func includeForeign(o *Order) { o.IncludeForeign = true }

// foreignIDs are of the result, sorted.
func foreignIDs(r Result) string {
	ids := []string{}
	for _, s := range r.Foreign {
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, " ")
}

func TestDefaultPattern(t *testing.T) {
	for id, want := range map[string]bool{
		"api": true, "api1": true, "api-1": true, "api@1": true, "api-host.example-4000": true, "api-1.1-abc-0": true, "api-[::1]": false, "api-::1": true, "api-1+2": true,
		"": false, "apiary": false, "api.service": false, "xapi": false, "sshd.service": false, "api-/../x": false, "api-a b": false,
		"api-\n": false, "api\n": false, "api-1;reboot": false, "api-$x": false, "api:1": false,
	} {
		if got := DefaultPattern("api").MatchString(id); got != want {
			t.Errorf("%q: got %t, want %t", id, got, want)
		}
	}
	if DefaultPattern("a.i").MatchString("api-1") {
		t.Error("a service's name is taken for a pattern")
	}
}

// The IDs that new nodes are given are those of old ones in the next deployment.
func TestDefaultPattern_IDsGivenToNodes_Match(t *testing.T) {
	for _, service := range []string{"api", "a/b", "my-api.v2", "a+b"} {
		for _, v := range []string{"1.1", "feature/x", "1.0+a=b,c%d@e:f"} {
			o := Order{Service: service, Version: v, Nonce: "xyz"}
			if id := o.NodeID(7); !DefaultPattern(service).MatchString(id) || CheckWord(id) != nil {
				t.Errorf("%q does not match", id)
			}
		}
	}
}

func TestParsePattern(t *testing.T) {
	p, err := ParsePattern("web-[0-9]+|api")
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"web-1": true, "api": true, "web-1x": false, "xapi": false, "web-1\n": false} {
		if got := p.MatchString(id); got != want {
			t.Errorf("%q: got %t, want %t", id, got, want)
		}
	}
	for _, text := range []string{"[", "a)|(b", "*"} {
		if _, err := ParsePattern(text); err == nil {
			t.Errorf("%s: got no error", text)
		}
	}
}

func TestForeign_OldVersion_NotStopped(t *testing.T) {
	for _, id := range []string{"sshd.service", "a;reboot", "-rf", "old a b", "old-$(reboot)", ""} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "1.0", 2, "lb0")
			w.add(id, "1.0", time.Now())
			r := w.deploy(t.Context(), order())
			w.mustBe(r, Deployed)
			w.mustCall("start 2 of 2", "stop old-0,old-1 undo=false last=true missing=0")
			if got := foreignIDs(r); got != id || !strings.Contains(strings.Join(r.Warnings, "\n"), fmt.Sprintf("%q", id)) {
				t.Errorf("foreign: got %q, warnings %q, want %q in both", got, r.Warnings, id)
			}
		})
	}
}

func TestForeign_NewVersion_NotCounted(t *testing.T) {
	for _, when := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "1.0", 2, "lb0")
			w.bad["1.1"] = true
			add := func() { w.add("stranger-0", "1.1", time.Now()); w.add("stranger-1", "1.1", time.Now()) }
			if when == 0 {
				add()
			} else {
				w.after(when, add)
			}
			w.mustBe(w.deploy(t.Context(), order()), Failed, "lb0 has 0 of 2 of 1.1 live")
			w.mustRun(map[string]int{"1.0": 2, "1.1": 2})
			w.mustCall("start 2 of 2", "stop api-1.1-xyz-0,api-1.1-xyz-1 undo=true last=false missing=0")
		})
	}
}

// It matches the pattern, but has not been started by this deployment.
func TestForeign_NewVersionUnderAnotherID_NotCountedAndNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		w.ownIDs = true
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Failed, `"own-0" has registered since, as version "1.1", but is not one of the started instances`)
		if got := foreignIDs(r); got != "own-0" {
			t.Errorf("foreign: got %s, want own-0", got)
		}
	})
}

func TestIncludeForeign_NodesWithIDsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.ownIDs = true
		w.add("stranger", "1.0", time.Now())
		w.mustBe(w.deploy(t.Context(), order(includeForeign)), Deployed)
		w.mustRun(map[string]int{"1.1": 3})
	})
}

func TestForeign_OldVersionThatComesLater_NotStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.after(time.Second, func() { w.add("old-late", "1.0", time.Now()) })
		r := w.deploy(t.Context(), order())
		w.mustBe(r, Deployed)
		w.mustRun(map[string]int{"1.0": 1, "1.1": 2})
		if got := foreignIDs(r); got != "old-late" {
			t.Errorf("foreign: got %s, want old-late", got)
		}
	})
}

func TestForeign_Redeploy_NeitherStoppedNorCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.1", 2, "lb0")
		w.add("stranger", "1.1", time.Now())
		w.add("other", "1.0", time.Now())
		w.mustBe(w.deploy(t.Context(), order(redeploy)), Deployed)
		w.mustCall("start 2 of 2", "stop old-0,old-1 undo=false last=true missing=0")
	})
}

func TestForeign_NothingElse_SaysWhichPattern(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 0, "lb0")
		w.add("_nomad-1", "1.0", time.Now())
		w.mustBe(w.deploy(t.Context(), order()), Refused, `"_nomad-1" (version "1.0") does not match the pattern ^(api|old|new)(-.*)?$ (--instance-pattern)`)
	})
}

// What takes an old instance's place under its ID was not started by this
// deployment.
func TestForeign_NewVersionUnderOldID_NotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 1, "lb0")
		w.silent = true
		w.after(time.Second, func() { w.nodes[Key{"old-0", "n"}].Version = "1.1" })
		w.mustBe(w.deploy(t.Context(), order()), Failed, `"old-0" replaced an old instance under the same ID`)
	})
}

// Another program has read a new node's ID in Consul, and registers under it on another
// node.
func TestForeign_IDOfANewNodeOnAnotherMachine_CountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "1.0", 2, "lb0")
		w.after(400*time.Millisecond, func() {
			n := w.add("api-1.1-xyz-0", "1.1", time.Now())
			delete(w.nodes, n.Key())
			n.Node = "evil"
			w.nodes[n.Key()] = n
			w.add("api-1.1-xyz-0", "1.1", time.Now())
		})
		w.lose = []string{"api-1.1-xyz-1"}
		w.mustBe(w.deploy(t.Context(), order()), Failed, "lb0 has 1 of 2 of 1.1 live")
		if slices.Contains(w.calls, "stop old-0,old-1 undo=false last=true missing=0") {
			t.Error("the old ones were stopped")
		}
	})
}
