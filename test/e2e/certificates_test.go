package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/certtest"
	"github.com/pointsman/pointsman/test/compat"
	"github.com/pointsman/pointsman/test/lab"
)

// Certificates are renewed, added, removed and broken in their directory while clients
// make a connection for each request: HAProxy shows what it should, without a reload and
// without a failed request, and so does the worker after it. A new default takes one
// reload (issue 16, section 5).
func TestCertificates_ChangedUnderLoad_ServedWithoutReload(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	s := &tlsSite{world: w, certs: certtest.New(t), dir: t.TempDir(), socket: filepath.Join(t.TempDir(), "tls")}
	for _, name := range []string{"a.test", "b.test", "load.test"} {
		s.sign(name)
	}
	w.newBalancer(lab.Service{Name: "shop", BackendOnly: true, Extra: fmt.Sprintf("    bind: %q\n    certificates: {directory: %q}\n", s.socket+" ssl", s.dir)})
	w.must(w.lb.Start(w.ctx))
	w.registerAt(newStickyNode(t, "x").Listener.Addr(), "shop", "shop-1", nil)
	w.must(w.lb.Routes(w.ctx, 20*time.Second, "shop", "shop-1"))
	pid, err := w.lb.WorkerPID(w.ctx)
	w.must(err)
	for _, name := range []string{"a.test", "b.test", "load.test"} {
		s.shows("at the start", name, name)
	}
	s.shows("a name that no certificate has", "other.test", "a.test")
	load := s.load("load.test")

	s.sign("load.test")
	s.shows("renewed", "load.test", "load.test")
	s.sign("a.test")
	s.shows("renewed default", "a.test", "a.test")
	s.sign("c.test")
	s.shows("new", "c.test", "c.test")
	w.must(os.Remove(filepath.Join(s.dir, "b.test.pem")))
	s.shows("removed", "b.test", "a.test")
	w.must(os.WriteFile(filepath.Join(s.dir, "c.test.pem"), []byte("broken"), 0o600))
	w.must(lab.Until(w.ctx, 10*time.Second, "the state names the broken file", func() error {
		if _, problems := s.state(); !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, "c.test.pem") && strings.Contains(p, "no certificate") }) {
			return fmt.Errorf("problems: %q", problems)
		}
		return nil
	}))
	s.shows("broken", "c.test", "c.test")
	if now, err := w.lb.WorkerPID(w.ctx); err != nil || now != pid {
		t.Errorf("the worker is %d and was %d: changes of certificates took a reload (%v)", now, pid, err)
	}
	names, _ := s.state()
	if want := []string{"a.test", "c.test", "load.test"}; !slices.Equal(names, want) {
		t.Errorf("the state has certificates %v, want %v", names, want)
	}
	if metrics, err := w.lb.Metrics(w.ctx); err != nil || !strings.Contains(metrics, `pointsman_certificate_expiry_timestamp_seconds{backend="shop",certificate="c.test"}`) || !strings.Contains(metrics, "pointsman_certificate_problems 1") {
		t.Errorf("no expiry of c.test, or no problem, in the metrics (%v)", err)
	}

	w.must(w.lb.ReloadHAProxy(w.ctx))
	for _, name := range []string{"a.test", "c.test", "load.test"} {
		s.shows("after a reload", name, name)
	}
	pid, err = w.lb.WorkerPID(w.ctx)
	w.must(err)
	w.must(os.Remove(filepath.Join(s.dir, "a.test.pem")))
	s.shows("without the default, the next one", "other.test", "load.test")
	if now, err := w.lb.WorkerPID(w.ctx); err != nil || now == pid {
		t.Errorf("the default has changed, and the worker is the same (%v)", err)
	}
	w.must(lab.Until(w.ctx, 10*time.Second, "the copy of the old default is gone", func() error {
		if _, err := os.Stat(w.lb.Config() + ".certificates/shop/a.test.pem"); err == nil {
			return errors.New("it is there")
		}
		return nil
	}))
	load()
	if !t.Failed() {
		compat.HAProxy(t, "certificates renewed, added and removed under load", "no reload, no request lost; a new default takes one reload")
	}
}

// tlsSite is a load balancer with a directory of certificates, and its clients.
type tlsSite struct {
	*world
	certs  *certtest.Authority
	dir    string
	socket string // where HAProxy speaks TLS
}

// sign puts a new certificate into the directory, by a rename.
func (s *tlsSite) sign(name string) {
	s.Helper()
	s.certs.Sign(name)
	at := filepath.Join(s.dir, "."+name)
	s.must(os.WriteFile(at, append(s.certs.Read(name+".pem"), s.certs.Read(name+"-key.pem")...), 0o600))
	s.must(os.Rename(at, filepath.Join(s.dir, name+".pem")))
}

// connect makes a connection by which a client asks for a name.
func (s *tlsSite) connect(ctx context.Context, name string) (*tls.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	if err != nil {
		return nil, err
	}
	// Which certificate it is, is compared by the caller; here it is who signed it.
	c := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // see above
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

// shows waits until a client that asks for a name gets the newest certificate of another.
func (s *tlsSite) shows(when, name, whose string) {
	s.Helper()
	want := s.certs.Pair(whose).Leaf
	s.must(lab.Until(s.ctx, 15*time.Second, when+": "+name+" gets the certificate of "+whose, func() error {
		c, err := s.connect(s.ctx, name)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			return fmt.Errorf("got that of %s, serial %s, want serial %s", got.Subject.CommonName, got.SerialNumber, want.SerialNumber)
		}
		return nil
	}))
}

// load sends requests, a connection for each, until the function that it gives is
// called. Each gets a certificate of the name.
func (s *tlsSite) load(name string) (stop func()) {
	var over atomic.Bool
	var sent atomic.Int64
	var running sync.WaitGroup
	one := func() error {
		c, err := s.connect(s.ctx, name)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != name {
			return fmt.Errorf("the certificate is that of %s", got)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}}
		req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, "http://"+name+"/", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	}
	for range 3 {
		running.Go(func() {
			for !over.Load() {
				if err := one(); err != nil && !over.Load() {
					s.Errorf("under load: %v", err)
					return
				}
				sent.Add(1)
			}
		})
	}
	end := func() { over.Store(true); running.Wait() }
	s.Cleanup(end)
	return func() { end(); s.Logf("%d requests", sent.Load()) }
}

// state is the certificates and the problems in the sidecar's state.
func (s *tlsSite) state() (names, problems []string) {
	s.Helper()
	body, err := s.lb.StateJSON(s.ctx)
	s.must(err)
	var state struct {
		Certificates []struct{ Name string }
		Problems     []struct{ File, Error string } `json:"certificate_problems"`
	}
	s.must(json.Unmarshal(body, &state))
	for _, c := range state.Certificates {
		names = append(names, c.Name)
	}
	for _, p := range state.Problems {
		problems = append(problems, p.File+": "+p.Error)
	}
	return names, problems
}

// A frontend's bind line names its certificate itself: HAProxy loads it, and the sidecar
// tells when it expires, also of one that was renewed.
func TestCertificates_OfAFrontendsBindLine_ExpiryInStateAndMetrics(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	s := &tlsSite{world: w, certs: certtest.New(t), dir: t.TempDir(), socket: filepath.Join(t.TempDir(), "tls")}
	s.sign("a.test")
	path := filepath.Join(s.dir, "a.test.pem")
	w.newBalancer(lab.Service{Name: "shop", BackendOnly: true})
	w.must(w.lb.SetExtra(fmt.Sprintf("frontends:\n  - {name: web, bind: %q, default: shop}\n", s.socket+" ssl crt "+path)))
	w.must(w.lb.Start(w.ctx))
	for range 2 {
		leaf := s.certs.Pair("a.test").Leaf
		sample := fmt.Sprintf("pointsman_certificate_expiry_timestamp_seconds{backend=%q,certificate=%q}", "web", path)
		w.must(lab.Until(w.ctx, 10*time.Second, "the metric has the certificate's end", func() error {
			end, err := w.lb.Metric(w.ctx, sample)
			if err == nil && int64(end) != leaf.NotAfter.Unix() {
				err = fmt.Errorf("it has %.0f, want %d", end, leaf.NotAfter.Unix())
			}
			return err
		}))
		if names, problems := s.state(); !slices.Equal(names, []string{path}) || len(problems) > 0 {
			t.Errorf("the state has certificates %v, problems %v", names, problems)
		}
		s.sign("a.test")
	}
}
