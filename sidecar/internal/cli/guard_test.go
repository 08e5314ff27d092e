package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/sidecar/internal/api"
	"github.com/pointsman/pointsman/sidecar/internal/haproxytest"
	"github.com/pointsman/pointsman/sidecar/internal/reconcile"
	"github.com/pointsman/pointsman/test/certtest"
)

// ownStatus serves a state and takes orders as the running sidecar does, and
// gives its address.
func ownStatus(t *testing.T, access api.Access, s *reconcile.State, release api.Release) string {
	t.Helper()
	return served(t, api.Options{Access: access, State: func() any { return s }, Release: release})
}

// ownSocket is ownStatus over a Unix socket, too.
func ownSocket(t *testing.T, socket string, s *reconcile.State, release api.Release) string {
	t.Helper()
	at := served(t, api.Options{Socket: socket, State: func() any { return s }, Release: release})
	haproxytest.Until(t, "the socket is there", func() bool { _, err := os.Stat(socket); return err == nil })
	return at
}

// served is the status server of lb0 while the test lasts; it gives its address.
func served(t *testing.T, o api.Options) string {
	t.Helper()
	o.Address, o.LoadBalancer, o.Metrics = "127.0.0.1:0", "lb0", prometheus.NewRegistry()
	o.Ready, o.Alive = func() (bool, string) { return true, "" }, func() error { return nil }
	server, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // outlives t.Context, for Cleanup
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-server.Bound():
	case err := <-done:
		t.Fatal(err)
	}
	return server.Addr().String()
}

// sidecar runs one command line with the status settings of a running sidecar.
func sidecar(t *testing.T, settings string, args ...string) (code int, out, errs string) {
	t.Helper()
	file := settingsFile(t, "services: [{name: api}]\napi: {address: "+settings+"}\n")
	var stdout, stderr strings.Builder
	code = Run(t.Context(), Env{Args: append(args, "--config", file), Hostname: "lb0", Stdout: &stdout, Stderr: &stderr, Version: "test"})
	return code, stdout.String(), stderr.String()
}

func settingsFile(t *testing.T, yaml string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sidecar.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGuardCommands(t *testing.T) {
	since := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	held := &reconcile.State{Services: []reconcile.ServiceState{
		{Name: "api", Backend: "api", Guard: reconcile.GuardState{Held: []string{"api-1", "api-2"}, Since: since, Until: since.Add(time.Hour)}},
		{Name: "web", Guard: reconcile.GuardState{Held: []string{}}},
		{Name: "mail", Backend: "mailers", Guard: reconcile.GuardState{Held: []string{"m"}, Since: since}},
	}}
	dir := t.TempDir()
	socket, calmSocket, none := filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock"), filepath.Join(dir, "none.sock")
	tcp := ownSocket(t, socket, held, func(_ context.Context, service string) ([]string, bool, error) {
		switch service {
		case "api":
			return []string{"api-1", "api-2"}, true, nil
		case "web":
			return []string{}, true, nil
		case "busy":
			return nil, true, errors.New("no time")
		}
		return nil, false, nil
	})
	calm := by(ownSocket(t, calmSocket, &reconcile.State{}, nil), calmSocket)
	at := by(tcp, socket)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer broken.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	address := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	away := "query sidecar at " + none + ": dial unix " + none + ": connect: no such file or directory"

	for _, c := range []struct {
		name, address, args string
		code                int
		out, errs           string // errs: what it holds
	}{
		{
			"what is held", at, "guard list", ExitOK,
			"SERVICE  BACKEND  SINCE                 UNTIL                 SERVERS\n" +
				"api      api      2026-11-25T12:00:00Z  2026-11-25T13:00:00Z  api-1 api-2\n" +
				"mail     mailers  2026-11-25T12:00:00Z  -                     m\n", "",
		},
		{"nothing is held", calm, "guard list", ExitOK, "The guard holds no servers.\n", ""},
		{"nothing is held, for programs", calm, "guard list --json", ExitOK, "[]\n", ""},
		{"released", at, "guard release api", ExitOK, "lb0: released servers of api: api-1, api-2\n", ""},
		{"released, for programs", at, "guard release api --json", ExitOK, `{"load_balancer":"lb0","service":"api","released":["api-1","api-2"]}` + "\n", ""},
		{"nothing to release", at, "guard release web", ExitOK, "lb0: guard holds no servers of web\n", ""},
		{"a service that is not routed", at, "guard release nothing", ExitFailure, "", "service not routed"},
		{"a name that is a path", at, "guard release a/b", ExitFailure, "", "want /api/v1/guard"},
		{"a sidecar that has no time", at, "guard release busy", ExitFailure, "", "no time"},
		{"a sidecar that takes no orders", calm, "guard release api", ExitFailure, "", "no such page"},
		{"what is held, without the socket", by(tcp, none), "guard list --json", ExitOK, "[", ""},
		{"release, without the socket", by(tcp, none), "guard release api", ExitFailure, "", "an action needs the Unix socket"},
		{"release, with no socket at all", by(tcp, ""), "guard release api", ExitFailure, "", "an action needs the Unix socket"},
		{"something else there", by(address(broken), none), "guard list", ExitFailure, "", `query sidecar at http://` + address(broken) + `: invalid answer`},
		{"no sidecar there", by(address(closed), none), "guard list", ExitFailure, "", "query sidecar at http://" + address(closed) + ": dial tcp " + address(closed) + ": connect: connection refused"},
		{"no sidecar at the socket either", by(address(closed), none), "guard list", ExitFailure, "", away},
		{"a port that is not known", by("127.0.0.1:0", none), "guard list", ExitUsage, "", "api.address"},
		{"no service", at, "guard release", ExitUsage, "", "arg"},
		{"no command", at, "guard", ExitUsage, "", "want list or release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := sidecar(t, c.address, strings.Fields(c.args)...)
			if code != c.code || out != c.out && (c.out != "[" || !strings.HasPrefix(out, c.out)) || !strings.Contains(errs, c.errs) || (errs == "") != (c.errs == "") {
				t.Errorf("sidecar %s: got %d %q %q, want %d %q, an error with %q", c.args, code, out, errs, c.code, c.out, c.errs)
			}
		})
	}
}

// by is the settings of a sidecar that is reached at an address and a socket.
func by(address, socket string) string { return fmt.Sprintf("%q, socket: %q", address, socket) }

func TestTheSidecarIsAskedWithItsOwnCredentials(t *testing.T) {
	own, other := certtest.New(t), certtest.New(t)
	cert := own.Path("ca.pem")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := ownStatus(t, api.Access{TokenFile: token, CertFile: cert, KeyFile: own.Path("ca-key.pem"), ClientCAFile: cert}, &reconcile.State{},
		func(context.Context, string) ([]string, bool, error) { return []string{"api-1"}, true, nil })
	at = strings.Replace(at, "127.0.0.1", "localhost", 1) // a name that the certificate is not for
	tls := func(a *certtest.Authority) string {
		return fmt.Sprintf(`"%s", socket: "", token_file: "%s", tls: {cert_file: "%s", key_file: "%s", client_ca_file: "%s"}`, at, token, a.Path("ca.pem"), a.Path("ca-key.pem"), cert)
	}
	code, out, errs := sidecar(t, tls(own), "guard", "release", "api")
	if code != ExitOK || out != "lb0: released servers of api: api-1\n" {
		t.Errorf("got %d %q %q, want it released", code, out, errs)
	}
	code, _, errs = sidecar(t, tls(other), "guard", "list")
	if code != ExitFailure || !strings.Contains(errs, "server certificate is not") {
		t.Errorf("one with another certificate: got %d %q, want no answer", code, errs)
	}
}
