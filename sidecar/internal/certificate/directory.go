// Package certificate keeps the certificates of a directory in HAProxy: it reads and
// checks them, copies those that can be used to where HAProxy loads them, and changes
// them in a running HAProxy without a reload.
//
// Its invariants: HAProxy's copies are always whole pairs of certificate and key, so
// that HAProxy can start with them at any moment; a certificate that cannot be read any
// more stays as it was; the files of a change are in place before HAProxy gets the change. No
// error shows a key. It imports nothing of ours.
package certificate

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // HAProxy shows it, and it is compared, not trusted
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Certificate is a pair that can be used.
type Certificate struct {
	Name     string    // of the file, without its end
	Source   string    // its path
	Names    []string  // host names that it is for
	NotAfter time.Time // when it expires

	fingerprint string // of the leaf, as HAProxy shows it
	pem         []byte // chain and key, without blank lines
}

// Equal reports whether two are the same pair.
func (c Certificate) Equal(o Certificate) bool { return c.Name == o.Name && bytes.Equal(c.pem, o.pem) }

// Problem is a file that cannot be used.
type Problem struct {
	Source string
	Err    error
}

func (p Problem) Error() string { return p.Source + ": " + p.Err.Error() }

// The bounds of what is read.
const (
	maxFile         = 64 << 10 // bytes
	maxCertificates = 10_000
)

// Read reads a directory. Three forms are known: NAME.pem with certificate and key,
// NAME.crt with NAME.key (as lego makes them), and NAME/fullchain.pem with
// NAME/privkey.pem (as certbot makes them, by symbolic links). It gives what can be
// used, sorted by name, and what cannot. The error is about the directory itself.
func Read(directory string) (good []Certificate, problems []Problem, err error) {
	return read(directory, load)
}

// loader reads a certificate from its files.
type loader func(name string, files []string) (Certificate, error)

func read(directory string, load loader) (good []Certificate, problems []Problem, err error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, nil, fmt.Errorf("certificates: %w", err)
	}
	for _, e := range entries {
		name, files := pairOf(directory, e)
		if len(files) == 0 {
			continue
		}
		c, err := load(name, files)
		switch {
		case err == nil && len(good) == maxCertificates:
			err = fmt.Errorf("more than %d certificates", maxCertificates)
		case err == nil && slices.ContainsFunc(good, func(o Certificate) bool { return o.Name == c.Name }):
			err = fmt.Errorf("another file has the name %s", c.Name)
		}
		if err != nil {
			problems = append(problems, Problem{Source: files[0], Err: err})
			continue
		}
		good = append(good, c)
	}
	slices.SortFunc(good, func(a, b Certificate) int { return strings.Compare(a.Name, b.Name) })
	return good, problems, nil
}

// pairOf names the certificate that an entry of the directory begins, and its files.
func pairOf(directory string, e fs.DirEntry) (name string, files []string) {
	at := filepath.Join(directory, e.Name())
	if strings.HasPrefix(e.Name(), ".") {
		return "", nil
	}
	if info, err := os.Stat(at); e.IsDir() || err == nil && info.IsDir() {
		pair := []string{filepath.Join(at, "fullchain.pem"), filepath.Join(at, "privkey.pem")}
		// One that is half there, or that cannot be looked at, is broken and not gone.
		for _, file := range pair {
			if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
				return e.Name(), pair
			}
		}
		return "", nil
	}
	if base, ok := strings.CutSuffix(e.Name(), ".pem"); ok {
		return base, []string{at}
	}
	if base, ok := strings.CutSuffix(e.Name(), ".crt"); ok && !strings.HasSuffix(base, ".issuer") {
		return base, []string{at, filepath.Join(directory, base+".key")}
	}
	return "", nil
}

func load(name string, files []string) (Certificate, error) {
	if !isName(name) {
		return Certificate{}, errors.New("a name may have only letters, digits, '-', '_', '.' and '@'")
	}
	var all []byte
	for _, f := range files {
		content, err := readFile(f)
		if err != nil {
			return Certificate{}, err
		}
		all = append(append(all, content...), '\n')
	}
	return parse(name, files[0], all)
}

// parse checks that the key is that of the first certificate.
func parse(name, source string, content []byte) (Certificate, error) {
	var chain, key bytes.Buffer
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		block.Headers = nil
		switch {
		case block.Type == "CERTIFICATE":
			_ = pem.Encode(&chain, block) // of a buffer
		case strings.HasSuffix(block.Type, "PRIVATE KEY") && key.Len() == 0:
			_ = pem.Encode(&key, block)
		}
	}
	switch {
	case chain.Len() == 0:
		return Certificate{}, errors.New("no certificate in it")
	case key.Len() == 0:
		return Certificate{}, errors.New("no private key in it")
	}
	pair, err := tls.X509KeyPair(chain.Bytes(), key.Bytes())
	if err != nil {
		return Certificate{}, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	if err := accepted(pair.Certificate); err != nil {
		return Certificate{}, err
	}
	sum := sha1.Sum(pair.Leaf.Raw) //nolint:gosec // see above
	return Certificate{
		Name: name, Source: source, Names: namesOf(pair.Leaf), NotAfter: pair.Leaf.NotAfter,
		fingerprint: strings.ToUpper(hex.EncodeToString(sum[:])), pem: append(chain.Bytes(), key.Bytes()...),
	}, nil
}

// namesOf returns the host names that a certificate is for.
func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// minRSA is the size of the smallest RSA key that OpenSSL takes at its level 2.
const minRSA = 2048

// accepted checks each certificate of a chain as OpenSSL does when HAProxy loads it: one
// that it refuses keeps HAProxy from starting.
func accepted(chain [][]byte) error {
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err == nil {
			err = strong(c)
		}
		if err != nil {
			return fmt.Errorf("certificate %d of %d: %w", i+1, len(chain), err)
		}
	}
	return nil
}

func strong(c *x509.Certificate) error {
	if key, is := c.PublicKey.(*rsa.PublicKey); is && key.N.BitLen() < minRSA {
		return fmt.Errorf("RSA key of %d bits, OpenSSL refuses those below %d by default", key.N.BitLen(), minRSA)
	}
	if bytes.Equal(c.RawIssuer, c.RawSubject) {
		return nil // its own signature is not looked at
	}
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return fmt.Errorf("signed with %s, which OpenSSL refuses by default", c.SignatureAlgorithm)
	default:
		return nil
	}
}

// isName passes what can stand in a crt-list and in a runtime command as it is.
func isName(s string) bool {
	return s != "" && len(s) < 200 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.@", r)
	})
}

// readFile reads a regular file, also by symbolic links. It waits for no pipe.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("is larger than %d KiB", maxFile>>10)
	}
	return content, err
}
