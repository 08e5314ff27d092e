package credential

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/certtest"
)

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestATokenIsThatOfTheMomentAndTheLastGoodOneStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	token := NewToken("fixed", path)
	want := func(when, want, problem string) {
		t.Helper()
		got, err := token.Current()
		if got != want || (err != nil) != (problem != "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: got %q, %v; want %q, %q", when, got, err, want, problem)
		}
	}
	want("before the file is there", "", path)
	write(t, path, []byte("two words\n"))
	want("a token that no header takes", "", "not printable ASCII")
	write(t, path, []byte(strings.Repeat("x", 5000)))
	want("a file that is no token", "", "larger than 4096 bytes")
	write(t, path, []byte(" first\n"))
	want("once it is there", "first", "")
	write(t, path, nil)
	want("while it is replaced", "first", "")
	write(t, path, []byte("second"))
	want("after its rotation", "second", "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("when it is gone", "second", "")

	if got, err := NewToken("fixed", "").Current(); got != "fixed" || err != nil {
		t.Errorf("a fixed token: got %q, %v", got, err)
	}
}

// pair is a certificate of its own, with its key, in PEM.
func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	a := certtest.New(t)
	return a.Read("ca.pem"), a.Read("ca-key.pem")
}

func TestACertificateIsThatOfTheMomentAndTheLastGoodPairStays(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, caFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	c, ca := NewCertificate(certFile, keyFile), NewAuthorities(caFile)
	if _, err := c.Current(); err == nil || !strings.Contains(err.Error(), certFile) {
		t.Errorf("no certificate: got %v, want an error that names it", err)
	}
	if _, err := ca.Current(); err == nil || !strings.Contains(err.Error(), caFile) {
		t.Errorf("no authority: got %v, want an error that names it", err)
	}
	cert, key := pair(t)
	write(t, certFile, cert)
	write(t, keyFile, key)
	write(t, caFile, cert)
	first, err := c.Current()
	if err != nil {
		t.Fatal(err)
	}
	firstCA, err := ca.Current()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := c.Current(); again != first {
		t.Error("files that have not changed: got another pair, want the same value")
	}

	next, nextKey := pair(t)
	write(t, certFile, next) // and the key not yet
	if got, err := c.Current(); err != nil || got != first {
		t.Errorf("in the middle of a rotation: got %p, %v, want the last pair", got, err)
	}
	write(t, keyFile, nextKey)
	if got, err := c.Current(); err != nil || got == first {
		t.Errorf("after the rotation: got the old pair, %v", err)
	}
	write(t, caFile, key)
	if got, err := ca.Current(); err != nil || got != firstCA {
		t.Errorf("an authority without a certificate: got %p, %v, want the last one", got, err)
	}
	write(t, caFile, next)
	if got, err := ca.Current(); err != nil || got.Equal(firstCA) {
		t.Errorf("a new authority: got the old one, %v", err)
	}
}
