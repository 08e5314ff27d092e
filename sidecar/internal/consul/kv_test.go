package consul

import (
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

// An error names the agent once, and no URL: it may have a session's ID in it.
func TestKV_NoConsul_ErrorNamesTheAgentOnce(t *testing.T) {
	const closed = "127.0.0.1:1"
	kv, err := NewKV(Options{Address: closed})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	_, err = kv.Acquire(t.Context(), "a", nil, "the-session")
	if err == nil || !strings.HasPrefix(err.Error(), "consul: ask http://"+closed+": dial tcp") || strings.Contains(err.Error(), "the-session") {
		t.Errorf("got %v, want an error that names the agent once", err)
	}
}

// The fake and the real Consul answer alike: a lock is one session's, a swap keeps it,
// and it ends with the session.
func TestKV_LockAndSwap_FakeAndRealAlike(t *testing.T) {
	for name, address := range map[string]func(*testing.T) string{
		"fake": func(t *testing.T) string { t.Helper(); return consultest.NewFake(t).Address() },
		"real": func(t *testing.T) string { t.Helper(); return consultest.StartProcess(t).Address() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			kv, err := NewKV(Options{Address: address(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			must := func(what string, isDone, want bool, err error) {
				t.Helper()
				if err != nil || isDone != want {
					t.Fatalf("%s: %v, want %v; error %v", what, isDone, want, err)
				}
			}
			get := func() Entry {
				t.Helper()
				e, err := kv.Get(ctx, "a/b%2Fc")
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			const ttl = 20 * time.Second
			one, err := kv.NewSession(ctx, "one", ttl)
			must("a session", one != "", true, err)
			two, err := kv.NewSession(ctx, "two", ttl)
			must("another", two != "" && two != one, true, err)
			if e := get(); e.Index != 0 || e.Session != "" {
				t.Fatalf("a key that is not there: %+v", e)
			}
			isDone, err := kv.Acquire(ctx, "a/b%2Fc", []byte("x"), one)
			must("the first locks it", isDone, true, err)
			isDone, err = kv.Acquire(ctx, "a/b%2Fc", []byte("y"), two)
			must("the second does not", isDone, false, err)
			e := get()
			isDone, err = kv.Swap(ctx, "a/b%2Fc", []byte("z"), e.Index)
			must("a swap", isDone, true, err)
			isDone, err = kv.Swap(ctx, "a/b%2Fc", []byte("w"), e.Index)
			must("a swap of what has changed", isDone, false, err)
			if e = get(); string(e.Value) != "z" || e.Session != one {
				t.Fatalf("after the swap: %q, session %q, want %q", e.Value, e.Session, one)
			}
			isThere, err := kv.Renew(ctx, one)
			must("the first is there", isThere, true, err)
			if err := kv.End(ctx, one); err != nil {
				t.Fatal(err)
			}
			isThere, err = kv.Renew(ctx, one)
			must("the first has ended", isThere, false, err)
			if e = get(); string(e.Value) != "z" || e.Session != "" {
				t.Fatalf("after its end: %q, session %q, want z and none", e.Value, e.Session)
			}
			all, err := kv.Services(ctx, "a/")
			must("the list", len(all) == 1 && all[0] == "b/c", true, err)
			all, err = kv.Services(ctx, "nothing/")
			must("an empty list", len(all) == 0, true, err)
		})
	}
}
