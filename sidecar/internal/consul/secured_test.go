package consul_test

import (
	"crypto/tls"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/consul"
	"github.com/pointsman/pointsman/sidecar/internal/consultest"
	"github.com/pointsman/pointsman/test/certtest"
)

// server wants clients of the authority, and is itself one of its.
func server(a *certtest.Authority) *tls.Config {
	a.Sign("server")
	return &tls.Config{
		Certificates: []tls.Certificate{a.Pair("server")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool(),
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
}

// rotated puts the authority of another, and a client's certificate that it has
// signed, into the files of the first.
func rotated(files, next *certtest.Authority) {
	next.Sign("client")
	for _, f := range []string{"ca.pem", "client.pem", "client-key.pem"} {
		files.Write(f, next.Read(f))
	}
}

// Another CA, another certificate of Consul's and another of the client's, and
// no restart.
func TestCertificatesAreRotatedWithoutARestart(t *testing.T) {
	fake := consultest.NewFake(t)
	old, fresh, files := certtest.New(t), certtest.New(t), certtest.New(t)
	var now atomic.Pointer[tls.Config]
	now.Store(server(old))
	https := httptest.NewUnstartedServer(fake)
	https.EnableHTTP2 = true
	https.TLS = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return now.Load(), nil },
	}
	https.StartTLS()
	t.Cleanup(func() { https.CloseClientConnections(); https.Close() })

	rotated(files, old)
	w := start(t, fake.Address(), consul.Options{}) // to register with, and no more
	source, err := consul.New(consul.Options{
		Address: https.URL, CAFile: files.Path("ca.pem"), CertFile: files.Path("client.pem"), KeyFile: files.Path("client-key.pem"), WaitTime: time.Second,
	}, []consul.Service{{Name: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	w.Source = source
	go func() { _ = source.Run(t.Context()) }()
	w.register("a")
	w.await("one", are("a=passing"))

	now.Store(server(fresh))
	rotated(files, fresh)
	https.CloseClientConnections()
	w.register("b")
	w.await("two, over the new certificates", are("a=passing", "b=passing"))

	// In the middle of a rotation one of a pair is new, or half a file is there.
	files.Write("client.pem", []byte("-----BEGIN CERT"))
	https.CloseClientConnections()
	w.register("c")
	w.await("three, over those that were last read", are("a=passing", "b=passing", "c=passing"))

	// A server that is no longer trusted is refused: the CA is read again, too.
	rotated(files, old)
	https.CloseClientConnections()
	w.awaitHealth("an error", func(h catalog.SourceHealth) bool { return h.Err != nil })
}
