// Package packages tests the scripts of the packages.
package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A package that is removed keeps its drop-in only where HAProxy would not start
// without it: with what its distribution's unit loads.
func TestPreremove_HAProxyWithoutOurs_DropInKeptOnlyWhereNeeded(t *testing.T) {
	script, err := os.ReadFile("../../deploy/nfpm/pointsman.preremove.sh")
	if err != nil {
		t.Fatal(err)
	}
	const dropin = "systemd/system/haproxy.service.d/10-pointsman.conf"
	for name, c := range map[string]struct {
		files map[string]string // by path below the root
		needs string            // what HAProxy's arguments must have, to be valid
		kept  bool
		says  []string
	}{
		"Debian":                           {needs: "/etc/haproxy/haproxy.cfg"},
		"Debian, backends of ours named":   {needs: "pointsman.cfg", kept: true, says: []string{"WARNING"}},
		"Debian, and EXTRAOPTS names ours": {files: map[string]string{"etc/default/haproxy": "EXTRAOPTS=\"-f /var/lib/pointsman/pointsman.cfg\"\n"}, needs: "pointsman.cfg", kept: true, says: []string{"WARNING", "etc/default/haproxy names /var/lib/pointsman/pointsman.cfg"}},
		"Debian, EXTRAOPTS commented out":  {files: map[string]string{"etc/default/haproxy": "#EXTRAOPTS=\"-f /var/lib/pointsman/pointsman.cfg\"\n"}, needs: "pointsman.cfg", kept: true, says: []string{"WARNING"}},
		"Fedora":                           {files: map[string]string{"usr/lib/systemd/system/haproxy.service": "Environment=CFGDIR=/etc/haproxy/conf.d\n"}, needs: "/etc/haproxy/conf.d"},
		"Fedora, another directory": {files: map[string]string{
			"usr/lib/systemd/system/haproxy.service": "Environment=CFGDIR=/etc/haproxy/conf.d\n", "etc/sysconfig/haproxy": "CFGDIR=/srv/haproxy\n",
		}, needs: "/srv/haproxy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			put := func(path, text string) {
				t.Helper()
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for path, text := range c.files {
				put(path, text)
			}
			put("usr/lib/"+dropin, "[Service]\n")
			put("bin/haproxy", "#!/bin/sh\ncase \"$*\" in *"+c.needs+"*) ;; *) exit 1 ;; esac\n")
			below := strings.NewReplacer(" /etc/", " "+root+"/etc/", "=/etc/", "="+root+"/etc/", ">/etc/", ">"+root+"/etc/", `"/etc/`, `"`+root+"/etc/",
				" /usr/lib/", " "+root+"/usr/lib/", `"/usr/lib/`, `"`+root+"/usr/lib/", "/run/systemd", root+"/run/systemd")
			text := below.Replace(string(script))
			if rest := strings.NewReplacer(root+"/etc/systemd", "", root+"/run/systemd", "").Replace(text); strings.Contains(rest, "/etc/systemd") || strings.Contains(rest, "/run/systemd") {
				t.Fatalf("the script would change this machine:\n%s", text)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-s", "remove")
			cmd.Stdin = strings.NewReader(text)
			cmd.Env = append(os.Environ(), "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
			said, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			if _, err := os.Stat(filepath.Join(root, "etc", dropin)); (err == nil) != c.kept {
				t.Errorf("drop-in: got %v, want it kept: %t; said:\n%s", err, c.kept, said)
			}
			for _, want := range c.says {
				if !strings.Contains(string(said), want) {
					t.Errorf("said:\n%s\nwant %q in it", said, want)
				}
			}
			if got, want := strings.Contains(string(said), " names "), len(c.says) > 1; got != want {
				t.Errorf("said:\n%s\nwant the file with EXTRAOPTS named: %t", said, want)
			}
		})
	}
}
