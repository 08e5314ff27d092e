package config_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pointsman/pointsman/sidecar/internal/config"
)

// Each whole settings file on a page is one that Load takes.
func TestPages_SettingsFiles_AreValid(t *testing.T) {
	fence := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	n := 0
	for _, pattern := range []string{"../../../README.md", "../../../docs/*.md", "../../../docs/guides/*.md"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
				if !strings.Contains("\n"+m[1], "\nservices:") {
					continue // a part
				}
				n++
				if _, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(m[1]), nil }}); err != nil {
					t.Errorf("%s: %v", page, err)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d settings files found, want 20 at least", n)
	}
}

// The settings in the Nomad job are ones that Load takes, with Nomad's words filled in.
func TestNomadJob_Settings_AreValid(t *testing.T) {
	job, err := os.ReadFile("../../../deploy/nomad/sidecar.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)<<-EOT\n(.*?)\n *EOT\n`).FindSubmatch(job)
	if m == nil {
		t.Fatal("no settings found")
	}
	text := strings.NewReplacer(
		`{{ env "node.unique.name" }}`, "node1", `{{ env "NOMAD_ADDR_pointsman" }}`, "10.0.0.1:9600", `{{ env "NOMAD_ALLOC_DIR" }}`, "/alloc",
	).Replace(string(m[1]))
	cfg, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(text), nil }})
	if err != nil || len(cfg.Services) == 0 {
		t.Errorf("%v\n%s", err, text)
	}
}

// The sample's settings are ones that Load takes, with the variables of each sidecar as
// Compose gives them, alone and in the cluster. HAProxy is not root there, so it must give
// up nothing: it would end at a chroot, which haproxy -c does not show.
func TestCompose_SettingsAndVariables_AreValid(t *testing.T) {
	read := func(path string) []byte {
		text, err := os.ReadFile("../../../compose/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	settings := read("sidecar/sidecar.yaml")
	byDefault := regexp.MustCompile(`\$\{\w+:-([^}]*)\}`)
	n := 0
	for _, files := range [][]string{{"compose.yaml"}, {"compose.yaml", "cluster.yaml"}} {
		environ := map[string]map[string]string{}
		for _, file := range files {
			var of struct {
				Services map[string]struct {
					Environment map[string]string
				}
			}
			if err := yaml.Unmarshal(read(file), &of); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			for name, s := range of.Services {
				if !strings.HasSuffix(name, "-sidecar") {
					continue
				}
				if environ[name] == nil {
					environ[name] = map[string]string{}
				}
				maps.Copy(environ[name], s.Environment)
			}
		}
		for name, variables := range environ {
			n++
			var list []string
			for key, value := range variables {
				list = append(list, key+"="+byDefault.ReplaceAllString(value, "$1"))
			}
			cfg, err := config.Load(config.Sources{Hostname: name, Environ: list, ReadFile: func(string) ([]byte, error) { return settings, nil }})
			if err != nil {
				t.Errorf("%v, %s: %v", files, name, err)
			}
			if g := cfg.HAProxy.Global; g.User != "" || g.Group != "" || g.Chroot != "" || g.StatsSocketGroup != "" {
				t.Errorf("%v, %s: HAProxy is to give up root: %+v", files, name, g)
			}
			if want := strings.TrimSuffix(name, "-sidecar"); cfg.Name != want || cfg.Consul.Address == "" || strings.Contains(cfg.HAProxy.Log, "$") {
				t.Errorf("%v, %s: the name is %q, want %q; Consul is %q, the log %q", files, name, cfg.Name, want, cfg.Consul.Address, cfg.HAProxy.Log)
			}
		}
	}
	if n != 4 {
		t.Errorf("%d sidecars found, want two, twice", n)
	}
}
