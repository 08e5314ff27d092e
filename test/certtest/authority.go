// Package certtest gives tests certificates in files, and who signs them.
//
// Tests may import it, and nothing else.
package certtest

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
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates. Each is in a file NAME.pem, and its key in
// NAME-key.pem; its own are ca.pem and ca-key.pem. All are good for servers and
// clients on 127.0.0.1.
type Authority struct {
	tb   testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority. Its name is that of every other, and not its key.
func New(tb testing.TB) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, dir: tb.TempDir()}
	a.Sign("ca")
	return a
}

// Sign makes a certificate of the name, and its key.
func (a *Authority) Sign(name string) {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	a.must(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: a.cert == nil,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if a.cert == nil {
		a.cert, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	a.must(err)
	if template.IsCA {
		a.cert, err = x509.ParseCertificate(der) // with what was added to it
		a.must(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	a.Write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.Write(name+"-key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// Path is that of a file.
func (a *Authority) Path(file string) string { return filepath.Join(a.dir, file) }

// Read returns what is in a file.
func (a *Authority) Read(file string) []byte {
	a.tb.Helper()
	content, err := os.ReadFile(a.Path(file))
	a.must(err)
	return content
}

// Write replaces a file.
func (a *Authority) Write(file string, content []byte) {
	a.tb.Helper()
	a.must(os.WriteFile(a.Path(file), content, 0o600))
}

// Pair is a certificate with its key.
func (a *Authority) Pair(name string) tls.Certificate {
	a.tb.Helper()
	pair, err := tls.LoadX509KeyPair(a.Path(name+".pem"), a.Path(name+"-key.pem"))
	a.must(err)
	return pair
}

// Pool trusts the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	a.tb.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(a.Read("ca.pem")) {
		a.tb.Fatalf("%s holds no certificate", a.Path("ca.pem"))
	}
	return pool
}

func (a *Authority) must(err error) {
	a.tb.Helper()
	if err != nil {
		a.tb.Fatal(err)
	}
}

// RevokeNone makes a revocation list that revokes nothing, in a file.
func (a *Authority) RevokeNone(file string) {
	a.tb.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	a.must(err)
	a.Write(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}
