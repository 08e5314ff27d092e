package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/test/certtest"
)

// certified is settings of a service with a directory of certificates.
func certified(t *testing.T) (cfg config.Config, dir string) {
	t.Helper()
	dir = t.TempDir()
	certificates := filepath.Join(dir, "certificates")
	yaml := "haproxy:\n  config: " + filepath.Join(dir, "haproxy.cfg") + "\n  check_command: [" + haproxytest.Binary(t) + ", -c, -f, '{file}']\n  socket: " + filepath.Join(dir, "s") +
		"\n  global: {user: '', group: '', chroot: '', stats_socket_group: ''}\nservices:\n  - {name: api, bind: '127.0.0.1:1 ssl', certificates: {directory: " + certificates + "}}\n"
	cfg, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(yaml), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return cfg, certificates
}

func putPair(t *testing.T, dir string) {
	t.Helper()
	certs := certtest.New(t)
	certs.Sign("a.test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.test.pem"), append(certs.Read("a.test.pem"), certs.Read("a.test-key.pem")...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A command that changes nothing makes no copy of a key: one of root's would keep the
// sidecar from its own.
func TestCertificates_CommandsThatOnlyRead_WriteNoKey(t *testing.T) {
	cfg, dir := certified(t)
	putPair(t, dir)
	t.Setenv("TMPDIR", t.TempDir())
	content, err := rendered(t.Context(), cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	if want := "crt-list " + certificateCopies(cfg, "api"); !strings.Contains(string(content), want) {
		t.Errorf("no %q in:\n%s", want, content)
	}
	if err := checkTemplate(t.Context(), cfg); err != nil {
		t.Error(err)
	}
	if note, err := checkCertificates(cfg, cfg.Services[0]); err != nil {
		t.Errorf("%s: %v", note, err)
	}
	if _, err := os.Stat(cfg.HAProxy.Config + ".certificates"); err == nil {
		t.Error("copies were made")
	}
	if err := seedCertificates(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := newRendererWith(cfg, nil); err != nil {
		t.Error(err)
	}
}

// CI has no certificates, and a SIGHUP is not refused while the directory is broken.
func TestCertificates_NoDirectory_OfflineCheckPasses(t *testing.T) {
	cfg, dir := certified(t)
	for _, f := range runChecks(t.Context(), cfg, false, true) {
		if !f.OK {
			t.Errorf("%+v", f)
		}
	}
	if _, err := checkCertificates(cfg, cfg.Services[0]); err == nil {
		t.Error("no certificate anywhere, and no error")
	}
	if err := seedCertificates(cfg); err == nil {
		t.Error("the first start without a certificate is no error")
	}
	putPair(t, dir)
	if err := seedCertificates(cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := seedCertificates(cfg); err != nil {
		t.Errorf("with copies: %v", err)
	}
	if note, err := checkCertificates(cfg, cfg.Services[0]); err != nil || !strings.Contains(note, "keeps its copies") {
		t.Errorf("with copies: %q, %v", note, err)
	}
}

// A SIGHUP with another haproxy.config leaves the copies, like the file, where they are.
func TestCertificates_AnotherFileAfterSIGHUP_CopiesStay(t *testing.T) {
	cfg, dir := certified(t)
	putPair(t, dir)
	d, err := newDaemon(cfg, Env{Stderr: io.Discard}, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.HAProxy.Config = filepath.Join(t.TempDir(), "other.cfg")
	if !d.renderAgain() {
		t.Error("the copies were looked for beside the other file")
	}
}
