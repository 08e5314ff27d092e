package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/registrator/sidecarapi"
	"github.com/pointsman/pointsman/test/certtest"
)

// until waits for a fact.
func until(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !fact(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10s: %s", what)
		}
	}
}

func isSocket(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// release asks over a socket.
func releaseOver(t *testing.T, socket string) error {
	t.Helper()
	c := sidecarapi.New(sidecarapi.Options{Socket: socket})
	_, err := c.Release(t.Context(), sidecarapi.Target{URL: "http://localhost"}, "api")
	return err
}

func releasing(socket string) Options {
	o := options()
	o.Socket = socket
	o.Release = func(context.Context, string) ([]string, bool, error) { return []string{}, true, nil }
	return o
}

// The socket is an authority by itself: it needs neither token, certificate nor
// TLS, and only the sidecar's user can open it.
func TestSocket_TakesActions_ForItsOwnUserOnly(t *testing.T) {
	ca := certtest.New(t)
	ca.Sign("server")
	path := filepath.Join(t.TempDir(), "api.sock")
	o := releasing(path)
	o.Access = Access{Token: "secret", CertFile: ca.Path("server.pem"), KeyFile: ca.Path("server-key.pem"), ClientCAFile: ca.Path("ca.pem")}
	start(t, o)
	until(t, "the socket is there", func() bool { return isSocket(path) })
	if err := releaseOver(t, path); err != nil {
		t.Error(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v, want mode 0600", info.Mode(), err)
	}
	if rest, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(rest) > 0 {
		t.Errorf("left beside it: %v %v", rest, err)
	}
}

// A client's certificate is none: HAProxy may show one to its servers.
func TestRelease_WithClientCertificateOnly_IsForbidden(t *testing.T) {
	ca := certtest.New(t)
	ca.Sign("server")
	ca.Sign("node")
	o := releasing("")
	o.Access = Access{CertFile: ca.Path("server.pem"), KeyFile: ca.Path("server-key.pem"), ClientCAFile: ca.Path("ca.pem")}
	url := strings.Replace(start(t, o), "http://", "https://", 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/guard/api/release", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(ca, ca.Pair("node")).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("got %d, want 403", resp.StatusCode)
	}
}

func TestSocket_LeftByKilledSidecar_IsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, releasing(path))
	until(t, "the new one answers", func() bool { return releaseOver(t, path) == nil })
}

func TestSocket_OfAnotherProcessOrNoSocket_IsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	other, file := filepath.Join(dir, "other.sock"), filepath.Join(dir, "file")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: other, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{other: "another process listens there", file: "is not a socket", filepath.Join(dir, "no", "where"): "no such file"} {
		if l, err := listenSocket(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want an error with %q", path, l, err, want)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
		t.Errorf("the file has %q, %v", got, err)
	}
	// What is wrong with the socket does not keep the rest from being served.
	if got := request(t, "GET", start(t, releasing(file))+"/healthz"); got.code != http.StatusOK {
		t.Errorf("got %d, want 200", got.code)
	}
}

func TestSocket_OfStoppedServer_IsRemovedIfItIsItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	newer, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if !isSocket(path) {
		t.Error("the newer one's socket is gone")
	}
	if err := newer.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its own socket is left: %v", err)
	}
}
