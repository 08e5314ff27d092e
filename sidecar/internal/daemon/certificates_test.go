package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/certificate"
	"github.com/pointsman/pointsman/sidecar/internal/config"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/render"
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
	content, err := RenderedOnce(t.Context(), cfg, true)
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
	if err := SeedCertificates(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := newRendererWith(cfg, nil); err != nil {
		t.Error(err)
	}
}

// CI has no certificates, and a SIGHUP is not refused while the directory is broken.
func TestCertificates_NoDirectory_OfflineCheckPasses(t *testing.T) {
	cfg, dir := certified(t)
	for _, f := range RunChecks(t.Context(), cfg, false, true) {
		if !f.OK {
			t.Errorf("%+v", f)
		}
	}
	if _, err := checkCertificates(cfg, cfg.Services[0]); err == nil {
		t.Error("no certificate anywhere, and no error")
	}
	if err := SeedCertificates(t.Context(), cfg); err == nil {
		t.Error("the first start without a certificate is no error")
	}
	putPair(t, dir)
	if err := SeedCertificates(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := SeedCertificates(t.Context(), cfg); err != nil {
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
	d, err := New(t.Context(), cfg, Options{Adopt: true, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	d.cfg.HAProxy.Config = filepath.Join(t.TempDir(), "other.cfg")
	if !d.renderAgain() {
		t.Error("the copies were looked for beside the other file")
	}
}

// HAProxy 2.6 does not start with a chain that has a signature by MD4, which Go does not
// know. With the OpenSSL of the others it does, and so the check command stands in. While HAProxy does not run, a certificate is tried before it is copied: HAProxy starts with
// the others, and with what it had.
func TestCertificates_HAProxyCannotStartWithOne_NotCopied(t *testing.T) {
	t.Parallel()
	cfg, dir := certified(t)
	putPair(t, dir) // a.test
	certs, byMD4 := certtest.New(t), signedByMD4(t)
	strict := fmt.Sprintf(`for f in $(cat $(sed -n 's/.* crt-list //p' "$0")); do
		if grep -qF '%s' "$f"; then echo "[ALERT] unable to load chain certificate into SSL Context '$f'"; exit 1; fi
		done; exec %s -c -f "$0"`, bytes.Split(byMD4, []byte("\n"))[3], cfg.HAProxy.CheckCommand[0])
	cfg.HAProxy.CheckCommand = []string{"/bin/sh", "-c", strict, render.FilePlaceholder}
	put := func(name string, isGood bool) {
		t.Helper()
		certs.Sign(name)
		cert := certs.Read(name + ".pem")
		if !isGood {
			cert = append(cert, byMD4...)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), append(cert, certs.Read(name+"-key.pem")...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copied := func(want ...string) {
		t.Helper()
		all, err := certificate.NewStore(certificateCopies(cfg, "api")).Saved()
		var names []string
		for _, c := range all {
			names = append(names, c.Name)
		}
		if !slices.Equal(names, want) || err != nil {
			t.Errorf("copies of %v, %v, want %v", names, err, want)
		}
	}
	for _, name := range []string{"b.test", "c.test", "d.test"} {
		put(name, name != "c.test")
	}
	if err := SeedCertificates(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	copied("a.test", "b.test", "d.test")

	down := func(context.Context, string) (string, error) { return "", certificate.ErrNotRunning }
	k := newKeeper(cfg, cfg.Services[0], down, nil, hclog.NewNullLogger())
	put("b.test", false)
	put("d.test", true)
	put("e.test", true)
	put("f.test", false)
	before, err := os.ReadFile(filepath.Join(certificateCopies(cfg, "api"), "b.test.pem"))
	if err != nil {
		t.Fatal(err)
	}
	k.Step(t.Context())
	copied("a.test", "b.test", "d.test", "e.test")
	if now, err := os.ReadFile(filepath.Join(certificateCopies(cfg, "api"), "b.test.pem")); err != nil || !bytes.Equal(now, before) {
		t.Errorf("the copy of b.test is another one (%v)", err)
	}
	var refused []string
	for _, p := range k.State().Problems {
		if text := p.Error(); strings.Contains(text, "HAProxy refuses it: ") && strings.Contains(text, "unable to") && !strings.Contains(text, "/trial/") {
			refused = append(refused, filepath.Base(p.Source))
		} else {
			t.Errorf("a problem does not tell what HAProxy says: %s", text)
		}
	}
	if want := []string{"b.test.pem", "c.test.pem", "f.test.pem"}; !slices.Equal(slices.Sorted(slices.Values(refused)), want) {
		t.Errorf("problems of %v, want %v", refused, want)
	}
	if left, err := filepath.Glob(filepath.Join(certificateCopies(cfg, "api"), "trial*")); err != nil || len(left) > 0 {
		t.Errorf("keys of a trial are left: %v, %v", left, err)
	}
	put("c.test", true)
	k.Step(t.Context())
	copied("a.test", "b.test", "d.test", "e.test", "c.test")
}

// A check command that refuses whatever it gets is not asked about each certificate.
func TestCertificates_EverythingIsRefused_NoCertificateIsBlamed(t *testing.T) {
	cfg, dir := certified(t)
	putPair(t, dir)
	certs := certtest.New(t)
	for n := range 8 {
		name := fmt.Sprintf("c%d.test", n)
		certs.Sign(name)
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), append(certs.Read(name+".pem"), certs.Read(name+"-key.pem")...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runs := filepath.Join(t.TempDir(), "runs")
	cfg.HAProxy.CheckCommand = []string{"/bin/sh", "-c", `echo >>'` + runs + `'; echo "[ALERT] not today"; exit 1; : "$0"`, render.FilePlaceholder}
	k := newKeeper(cfg, cfg.Services[0], func(context.Context, string) (string, error) { return "", certificate.ErrNotRunning }, nil, hclog.NewNullLogger())
	k.Step(t.Context())
	k.Step(t.Context()) // a second later
	if count, err := os.ReadFile(runs); err != nil || len(count) != 2 {
		t.Errorf("the check command ran %d times (error: %v), want twice: with all and with none", len(count), err)
	}
	if text := fmt.Sprint(k.State().Err); !strings.Contains(text, "refuses a file without certificates, too") {
		t.Errorf("got the error %s, want that no certificate is to blame", text)
	}
}

// The global section of the settings may be why a certificate is refused.
func TestCertificates_Trial_HasTheGlobalSection(t *testing.T) {
	cfg, _ := certified(t)
	cfg.HAProxy.Global.Extra = []string{"ssl-security-level 3"}
	cfg.HAProxy.CheckCommand = []string{"/bin/sh", "-c", `grep -q ' ssl-security-level 3$' "$0" && grep -q ' ssl crt-list /a/list$' "$0" && { echo "[ALERT] key too small"; exit 1; }; exit 0`, render.FilePlaceholder}
	if words, err := trial(cfg)(t.Context(), t.TempDir(), "/a/list"); err != nil || !strings.Contains(words, "key too small") {
		t.Errorf("got %q (error: %v), want that it is refused", words, err)
	}
	if words, err := trial(cfg)(t.Context(), t.TempDir(), ""); err != nil || words != "" {
		t.Errorf("without certificates: got %q (error: %v), want nothing", words, err)
	}
}

// signedByMD4 is a certificate that seems to be signed with md4WithRSAEncryption.
func signedByMD4(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), SignatureAlgorithm: x509.SHA256WithRSA}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: pkix.Name{CommonName: "root"}}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1} // 11 is SHA-256 with RSA, 3 is MD4
	der = bytes.ReplaceAll(der, append(pkcs1[:8:8], 11), append(pkcs1[:8:8], 3))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestCertificates_OfBindLines_AreInStateAndMetrics(t *testing.T) {
	dir := t.TempDir()
	putPair(t, dir)
	pair, gone := filepath.Join(dir, "a.test.pem"), filepath.Join(dir, "gone.pem")
	yaml := "services:\n  - {name: api, bind: '127.0.0.1:1 ssl crt " + pair + "'}\n  - {name: shop}\n" +
		"frontends:\n  - {name: web, bind: ['127.0.0.1:2', '127.0.0.1:3 ssl crt " + pair + " crt " + gone + "'], default: shop}\n"
	cfg, err := config.Load(config.Sources{Hostname: "lb0", ReadFile: func(string) ([]byte, error) { return []byte(yaml), nil }})
	if err != nil {
		t.Fatal(err)
	}
	c := newCertificates(nil, nil, hclog.NewNullLogger())
	for range 2 {
		c.lookAtBinds(cfg)
	}
	all, problems := c.state()
	if len(all) != 2 || all[0].Backend != "api" || all[1].Backend != "web" {
		t.Fatalf("got %+v, want one of api and one of web", all)
	}
	for _, one := range all {
		if one.Name != pair || one.File != pair || !slices.Equal(one.Hosts, []string{"a.test", "127.0.0.1"}) || time.Until(one.NotAfter) < time.Minute {
			t.Errorf("got %+v", one)
		}
	}
	if len(problems) != 1 || problems[0].Backend != "web" || problems[0].File != gone {
		t.Errorf("problems %+v, want that of %s", problems, gone)
	}
	if expiries, bad := c.expiry(); len(expiries) != 2 || bad != 1 || expiries[1].Backend != "web" || !expiries[1].NotAfter.Equal(all[1].NotAfter) {
		t.Errorf("metrics: %+v, %d problems", expiries, bad)
	}
}
