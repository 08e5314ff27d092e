package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/render"
)

// A real HAProxy takes sections of the settings, and what it says of a wrong line names
// the line there.
func TestSections_RealHAProxy_TakenOrNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := filepath.Join(dir, "503.http")
	if err := os.WriteFile(page, []byte("HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, sections, want string }{
		{"right ones", `
    userlist staff
      user alice insecure-password secret
    resolvers local
      nameserver one 127.0.0.1:53
    cache static
      total-max-size 4
    http-errors site
      errorfile 503 ` + page + `
    peers other
      peer lb0 127.0.0.1:1
`, ""},
		{"a wrong keyword", `
    userlist staff
      # who may come in

      usr alice insecure-password secret
`, "(line 3 of haproxy.sections)"},
		{"a section twice", `
    cache static
      total-max-size 4
    cache static
`, "(line 3 of haproxy.sections)"},
	} {
		yaml := "haproxy:\n  config: " + filepath.Join(dir, "haproxy.cfg") + "\n  check_command: [" + haproxytest.Binary(t) + ", -c, -f, '{file}']\n  socket: " + filepath.Join(dir, "s") +
			"\n  global: {user: '', group: '', chroot: '', stats_socket_group: ''}\n  sections: |" + c.sections + "services: []\n"
		cfg := loaded(t, yaml)
		content := fileOf(t, cfg, nil)
		file, err := NewFile(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.Write(t.Context(), []byte(content))
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if _, rejected := errors.AsType[*render.RejectedError](err); !rejected || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want a rejection with %q", c.name, err, c.want)
		}
	}
}
