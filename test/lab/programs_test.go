package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/lab"
)

// Issue 13: the demo built Consul on a fresh machine, for 10 minutes.
func TestConsulTool_Demo_TakesWhatIsThereSoonest(t *testing.T) {
	consul, err := lab.FindConsul()
	if err != nil {
		t.Fatal(err)
	}
	type consulThere struct {
		onPath, built bool
		want          string // below the checkout; empty: the one on PATH
		version       string
	}
	cases := map[string]consulThere{
		"one on PATH":        {onPath: true, built: true},
		"one that was built": {built: true, want: ".tools/bin/consul"},
	}
	if _, err := exec.LookPath("apt-get"); err == nil { // elsewhere it is built
		cases["the package of Debian"] = consulThere{want: ".tools/consul/1.8/consul", version: "1.8."}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			checkout, path := freshCheckout(t), pathWithoutConsul(t)
			want := filepath.Join(checkout, c.want)
			if c.onPath {
				want = filepath.Join(path, "consul")
				link(t, consul, want)
			}
			if c.built {
				link(t, consul, checkout+"/.tools/bin/consul")
			}
			tool := exec.CommandContext(t.Context(), checkout+"/tools/consul.sh", "demo")
			tool.Env = []string{"PATH=" + path, "HOME=" + t.TempDir()}
			tool.Stderr = t.Output()
			out, err := tool.Output()
			if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != want {
				t.Fatalf("got %q, %v, want %s", got, err, want)
			}
			version, err := lab.ConsulVersion(t.Context(), want)
			if err != nil || !strings.HasPrefix(version, c.version) {
				t.Errorf("version %q, %v, want %s", version, err, c.version)
			}
		})
	}
}

// freshCheckout holds the scripts and no tools; but Debian's package, if this
// checkout has it, is not fetched twice.
func freshCheckout(t *testing.T) string {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "tools"), os.DirFS(filepath.Join(root, "tools"))); err != nil {
		t.Fatal(err)
	}
	if consul := root + "/.tools/consul/1.8/consul"; exists(consul) {
		link(t, consul, dir+"/.tools/consul/1.8/consul")
	}
	return dir
}

// pathWithoutConsul is a directory with all that PATH has but Consul.
func pathWithoutConsul(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, place := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(place)
		if err != nil {
			continue // PATH names what is not there, at times
		}
		for _, e := range entries {
			if to := filepath.Join(dir, e.Name()); e.Name() != "consul" && !exists(to) {
				link(t, filepath.Join(place, e.Name()), to)
			}
		}
	}
	return dir
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
