package credential

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxPEM is the size of a PEM file, in bytes: all authorities of a system take a
// quarter of it.
const maxPEM = 1 << 20

// NewCertificate returns the certificate of a PEM file with the key of another.
// The files need not be there yet.
func NewCertificate(certFile, keyFile string) *File[*tls.Certificate] {
	return &File[*tls.Certificate]{what: "certificate file", paths: []string{certFile, keyFile}, most: maxPEM, parse: func(contents [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(contents[0], contents[1])
		if err != nil {
			return nil, fmt.Errorf("with key file %s: %w", keyFile, err)
		}
		return &pair, nil
	}}
}

// NewAuthorities returns those whose signature under a certificate counts, of a
// file with one or more certificates in PEM. The file need not be there yet.
func NewAuthorities(path string) *File[*x509.CertPool] {
	return &File[*x509.CertPool]{what: "CA file", paths: []string{path}, most: maxPEM, parse: func(contents [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[0]) {
			return nil, errors.New("no certificate in PEM")
		}
		return pool, nil
	}}
}
