package consul_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
)

// authority is a CA of its own.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{}
	a.certificate, a.key = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes a certificate of the authority's, or its own.
func (a authority) sign(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c.Subject = pkix.Name{CommonName: c.SerialNumber.String()}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.certificate, a.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}

func (a authority) pair(t *testing.T) tls.Certificate {
	t.Helper()
	c, key := a.sign(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

// server wants clients of the authority, and is itself one of its.
func (a authority) server(t *testing.T) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return &tls.Config{
		Certificates: []tls.Certificate{a.pair(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
}

// files is what an operator rotates.
type files struct{ ca, certificate, key string }

func (f files) write(t *testing.T, a authority) {
	t.Helper()
	pair := a.pair(t)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		f.ca:          {Type: "CERTIFICATE", Bytes: a.certificate.Raw},
		f.certificate: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		f.key:         {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Another CA, another certificate of Consul's and another of the client's, and
// no restart.
func TestCertificatesAreRotatedWithoutARestart(t *testing.T) {
	fake := consultest.NewFake(t)
	old, fresh := newAuthority(t), newAuthority(t)
	var now atomic.Pointer[tls.Config]
	now.Store(old.server(t))
	server := httptest.NewUnstartedServer(fake)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return now.Load(), nil },
	}
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })

	dir := t.TempDir()
	f := files{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.write(t, old)
	w := start(t, fake.Address(), consul.Options{}) // to register with, and no more
	source, err := consul.New(consul.Options{
		Address: server.URL, CAFile: f.ca, CertFile: f.certificate, KeyFile: f.key, WaitTime: time.Second,
	}, []consul.Service{{Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	w.Source = source
	go func() { _ = source.Run(t.Context()) }()
	w.register("a")
	w.await("one", are("a=passing"))

	now.Store(fresh.server(t))
	f.write(t, fresh)
	server.CloseClientConnections()
	w.register("b")
	w.await("two, over the new certificates", are("a=passing", "b=passing"))

	// In the middle of a rotation one of a pair is new, or half a file is there.
	if err := os.WriteFile(f.certificate, []byte("-----BEGIN CERT"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.CloseClientConnections()
	w.register("c")
	w.await("three, over those that were last read", are("a=passing", "b=passing", "c=passing"))

	// What is no longer trusted is refused: the CA is read again, too.
	f.write(t, old)
	server.CloseClientConnections()
	w.awaitHealth("an error", func(h catalog.SourceHealth) bool { return h.Err != nil })
}
