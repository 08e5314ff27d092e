package snapshot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/snapshot"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func newFile(t *testing.T) *snapshot.File {
	t.Helper()
	return snapshot.New(filepath.Join(t.TempDir(), "haproxy.cfg.snapshot"), func() time.Time { return now })
}

func sample() []catalog.Saved {
	return []catalog.Saved{
		{Answered: now, Service: catalog.Service{Name: "api", Known: true, Instances: []catalog.Instance{
			{ID: "api-1", Node: "n1", Server: "api-1", Addr: netip.MustParseAddrPort("10.0.0.1:4000"), Weight: 1, Version: "1.0"},
			{
				ID: "api 2", Node: "n2", Server: catalog.ServerName("api 2", "n2"), Addr: netip.MustParseAddrPort("[fd00::1]:4000"),
				Health: catalog.Critical, Weight: 256, Backup: true, MaxConn: 5, Leaving: now.Add(-time.Hour),
			},
		}}},
		{Answered: now.Add(-time.Minute), Service: catalog.Service{Name: "web", Known: true}},
	}
}

func TestWhatIsSavedIsLoaded(t *testing.T) {
	f := newFile(t)
	if got, err := f.Load(); got != nil || err != nil {
		t.Fatalf("without a file: got %v, %v, want nothing", got, err)
	}
	for range 2 {
		if err := f.Save(sample()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	opts := []cmp.Option{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.SortSlices(func(a, b catalog.Instance) bool { return a.Server < b.Server })}
	if diff := cmp.Diff(sample(), got, opts...); diff != "" {
		t.Errorf("(-saved +loaded):\n%s", diff)
	}
	info, err := os.Stat(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %o, want 600", mode)
	}
}

// A file that is cut short or has another byte anywhere is damaged, and is
// kept.
func TestADamagedFileIsPutAside(t *testing.T) {
	f := newFile(t)
	if err := f.Save(sample()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{"empty": {}, "another version": bytes.Replace(good, []byte("snapshot 1 "), []byte("snapshot 2 "), 1)}
	for n := 0; n < len(good); n += 7 {
		damaged[fmt.Sprintf("cut at %d", n)] = good[:n]
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		damaged[fmt.Sprintf("flipped at %d", n)] = flipped
	}
	for name, content := range damaged {
		if err := os.WriteFile(f.Path(), content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := f.Load()
		damage, ok := errors.AsType[*snapshot.DamagedError](err)
		if got != nil || !ok || damage.Aside != f.Path()+".damaged-20261125T120000Z" {
			t.Fatalf("%s: got %v, %v, want it put aside", name, got, err)
		}
		if kept, err := os.ReadFile(damage.Aside); err != nil || !bytes.Equal(kept, content) {
			t.Fatalf("%s: kept %q, %v", name, kept, err)
		}
		if got, err := f.Load(); got != nil || err != nil {
			t.Fatalf("%s: after it was put aside: got %v, %v, want nothing", name, got, err)
		}
	}
}

// A checksum is no proof of who wrote it.
func TestWhatMustNotReachHAProxyIsRefusedThoughTheChecksumIsRight(t *testing.T) {
	const good = `[{"name":"api","answered":"2026-11-25T12:00:00Z","instances":[{"id":"a","node":"n","server":"a","address":"10.0.0.1:4000","health":"passing","weight":1}]}]`
	for _, c := range []struct{ name, from, to, want string }{
		{"good", "", "", ""},
		{"a server's name with a newline", `"server":"a"`, `"server":"a\nserver b 1.1.1.1:1"`, "belongs to another instance"},
		{"a slot's name", `"id":"a","node":"n","server":"a"`, `"id":"slot-1","node":"n","server":"slot-1"`, "belongs to another instance"},
		{"no port", "10.0.0.1:4000", "10.0.0.1:0", "want an IP address"},
		{"no address", "10.0.0.1:4000", "", "want an IP address"},
		{"a zone", "10.0.0.1:4000", "[fe80::1%eth0]:4000", "want an IP address"},
		{"a host's name", "10.0.0.1:4000", "example.org:80", "ParseAddr"},
		{"a health that there is not", "passing", "fine", "health"},
		{"too much weight", `"weight":1`, `"weight":257`, "weight 257"},
		{"negative weight", `"weight":1`, `"weight":-1`, "weight -1"},
		{"a negative limit", `"weight":1`, `"weight":1,"maxconn":-1`, "maxconn"},
		{"an unknown key", `"weight":1`, `"weight":1,"more":1`, "more"},
		{"a name twice", `}]}]`, `},{"id":"a","node":"m","server":"a","address":"10.0.0.2:4000","health":"passing","weight":1}]}]`, "two instances"},
		{"no JSON", "[", "{", "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := strings.Replace(good, c.from, c.to, 1) + "\n"
			if c.from == "}]}]" {
				body = strings.TrimSuffix(good, c.from) + c.to + "\n"
			}
			sum := sha256.Sum256([]byte(body))
			f := newFile(t)
			if err := os.WriteFile(f.Path(), []byte("pointsman-snapshot 1 sha256:"+hex.EncodeToString(sum[:])+"\n"+body), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := f.Load()
			if got := err != nil; got != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestAFileThatCannotBeReadOrWrittenIsAnErrorAndStays(t *testing.T) {
	dir := t.TempDir()
	f := snapshot.New(dir, time.Now) // a directory
	damaged := &snapshot.DamagedError{}
	if _, err := f.Load(); err == nil || errors.As(err, &damaged) {
		t.Errorf("a directory: got %v, want an error, and that it stays", err)
	}
	f = snapshot.New(filepath.Join(dir, "no", "such", "dir"), time.Now)
	if err := f.Save(sample()); err == nil {
		t.Error("a path that does not exist: got no error")
	}
}
