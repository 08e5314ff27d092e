package credential

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
)

// Authorities are those whose signature under a certificate counts. An
// Authorities must not be copied.
type Authorities struct {
	path string

	mu   sync.Mutex
	pem  []byte // as last read
	last *x509.CertPool
}

// NewAuthorities names a file with one or more certificates in PEM, and reads
// nothing yet.
func NewAuthorities(path string) *Authorities { return &Authorities{path: path} }

// Current gives the authorities of the moment. The file is read on every call;
// one without a certificate leaves the last ones in use.
func (a *Authorities) Current() (*x509.CertPool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.read()
	if a.last == nil {
		return nil, err
	}
	return a.last, nil
}

func (a *Authorities) read() error {
	pem, err := os.ReadFile(a.path)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if a.last != nil && bytes.Equal(pem, a.pem) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("certificate authority %s: no certificate in it", a.path)
	}
	a.pem, a.last = pem, pool
	return nil
}
