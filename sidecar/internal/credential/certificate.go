package credential

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"sync"
)

// Certificate is a certificate with its key. A Certificate must not be copied.
type Certificate struct {
	certFile, keyFile string

	mu        sync.Mutex
	cert, key []byte // as last read
	last      *tls.Certificate
}

// NewCertificate names the files and reads nothing yet.
func NewCertificate(certFile, keyFile string) *Certificate {
	return &Certificate{certFile: certFile, keyFile: keyFile}
}

// Current gives the certificate of the moment. Both files are read on every
// call, which is once a handshake; two that do not belong together, as in the
// middle of a rotation, leave the last pair in use.
func (c *Certificate) Current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.read()
	if c.last == nil {
		return nil, err
	}
	return c.last, nil
}

func (c *Certificate) read() error {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if c.last != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	c.cert, c.key, c.last = cert, key, &pair
	return nil
}
