package statefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
)

func TestDrains_Saved_AreReadBack(t *testing.T) {
	d := New(filepath.Join(t.TempDir(), "drains"), time.Now)
	if got, err := d.Load(); got != nil || err != nil {
		t.Errorf("without a file: got %v, %v, want nothing", got, err)
	}
	want := []catalog.OperatorDrain{{Service: "web", Server: "b", Since: time.Unix(7, 0).UTC()}, {Service: "api", Server: "a", Since: time.Unix(8, 0).UTC()}}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// Another version is not guessed at. Reading changes nothing, loading puts it aside.
func TestDrains_Damaged_ArePutAside(t *testing.T) {
	for _, content := range []string{"", "{", `{"version":2,"drains":[]}`, `{"version":1,"drains":[],"more":1}`} {
		path := filepath.Join(t.TempDir(), "drains")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		d := New(path, time.Now)
		if _, err := d.Read(); err == nil {
			t.Errorf("%q: read without an error", content)
		}
		_, err := d.Load()
		damaged, is := errors.AsType[*DamagedError](err)
		if !is {
			t.Fatalf("%q: got %v, want a DamagedError", content, err)
		}
		if aside, err := os.ReadFile(damaged.Aside); err != nil || string(aside) != content {
			t.Errorf("%q: got %q, %v aside", content, aside, err)
		}
	}
}
