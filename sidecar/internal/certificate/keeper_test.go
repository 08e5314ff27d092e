package certificate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/test/certtest"
)

// proxy answers as HAProxy does.
type proxy struct {
	list     string            // its path; "" while HAProxy does not have it
	order    []string          // paths of the certificates of the list
	has      map[string]string // what is committed, by path
	pending  map[string]string // the transaction that is open: one at most
	refuses  func(path string) bool
	stops    string // the command that is the last before ctx ends
	stop     context.CancelFunc
	commands []string
	down     bool
}

func (p *proxy) ask(ctx context.Context, command string) (string, error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if p.down {
		return "", ErrNotRunning
	}
	head, payload, _ := strings.Cut(command, " <<\n")
	p.commands = append(p.commands, head)
	words := strings.Fields(head)
	verb, path := strings.Join(words[:3], " "), words[len(words)-1]
	if p.stops == verb {
		p.stop()
	}
	switch verb {
	case "show ssl crt-list":
		if path != p.list {
			return "didn't find the specified filename", nil
		}
		return "# " + p.list + "\n" + strings.Join(p.order, "\n") + "\n", nil
	case "show ssl cert":
		c, err := parse("x", "x", []byte(p.has[path]))
		if err != nil {
			return "Status: Empty", nil //nolint:nilerr // as HAProxy does
		}
		return "SHA1 FingerPrint: " + c.fingerprint, nil
	case "new ssl cert":
		if _, is := p.has[path]; is {
			return "Certificate '" + path + "' already exists!", nil
		}
		p.has[path] = ""
		return "New empty certificate store '" + path + "'!", nil
	case "set ssl cert":
		for other := range p.pending {
			if other != path {
				return "The ongoing transaction is about '" + other + "' but you are trying to set '" + path + "'", nil
			}
		}
		if p.refuses != nil && p.refuses(path) {
			return "unable to load certificate chain", nil
		}
		p.pending[path] = payload
		return "Transaction created for certificate " + path + "!", nil
	case "commit ssl cert":
		p.has[path] = p.pending[path]
		delete(p.pending, path)
		return "Committing " + path + ".\nSuccess!", nil
	case "abort ssl cert":
		delete(p.pending, path)
		return "Transaction aborted", nil
	case "add ssl crt-list":
		p.order = append(p.order, path)
		return "Inserting.\nSuccess!", nil
	case "del ssl crt-list":
		p.order = slices.DeleteFunc(p.order, func(o string) bool { return o == path })
		return "Entry '" + path + "' deleted in crtlist", nil
	case "del ssl cert":
		delete(p.has, path)
		return "Certificate '" + path + "' deleted!", nil
	}
	return "Unknown command", errors.New(command)
}

// site is a directory, its keeper and a HAProxy.
type site struct {
	*testing.T
	certs  *certtest.Authority
	dir    string
	store  Store
	proxy  *proxy
	log    bytes.Buffer
	keeper *Keeper
	now    time.Time
	worker int
	parsed int
}

// newSite has HAProxy started with the certificates of these names.
func newSite(t *testing.T, names ...string) *site {
	t.Helper()
	s := &site{T: t, certs: certtest.New(t), dir: t.TempDir(), store: NewStore(filepath.Join(t.TempDir(), "copies"))}
	s.proxy = &proxy{list: s.store.List(), has: map[string]string{}, pending: map[string]string{}}
	s.keeper = New(Options{Directory: s.dir, Store: s.store.dir, Runtime: s.proxy.ask, Now: func() time.Time { return s.now }, Worker: func() int { return s.worker }, Logger: hclog.New(&hclog.LoggerOptions{Output: &s.log})})
	s.now, s.worker = time.Now(), 1
	s.keeper.cache.load = func(name string, files []string) (Certificate, error) { s.parsed++; return load(name, files) }
	for _, name := range names {
		s.sign(name)
	}
	s.must(s.keeper.Seed(t.Context()))
	for _, name := range names {
		path := s.store.path(name)
		s.proxy.order = append(s.proxy.order, path)
		s.proxy.has[path] = s.read(path)
	}
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) sign(name string) {
	s.Helper()
	s.certs.Sign(name)
	s.put(name, s.certs.Read(name+".pem"), s.certs.Read(name+"-key.pem"))
}

func (s *site) put(name string, parts ...[]byte) {
	s.Helper()
	s.must(os.WriteFile(filepath.Join(s.dir, name+".pem"), slices.Concat(parts...), 0o600))
}

func (s *site) read(path string) string {
	s.Helper()
	content, err := os.ReadFile(path)
	s.must(err)
	return string(content)
}

// source is what the directory has of a name, as it is copied.
func (s *site) source(name string) string {
	s.Helper()
	c, err := load(name, []string{filepath.Join(s.dir, name+".pem")})
	s.must(err)
	return string(c.pem)
}

func (s *site) problems() string {
	var all []string
	for _, p := range s.keeper.State().Problems {
		all = append(all, p.Error())
	}
	return strings.Join(all, "\n")
}

// HAProxy's word counts more than ours: what it refuses is not copied, so that it can
// start at any moment with what it had.
func TestStep_HAProxyRefuses_KeepsTheCopyAndNamesTheFile(t *testing.T) {
	s := newSite(t, "a.test", "b.test")
	before := s.source("a.test")
	s.proxy.refuses = func(path string) bool { return strings.Contains(path, "a.test") || strings.Contains(path, "new.test") }
	s.sign("a.test")
	s.sign("new.test")
	for range 2 {
		if s.keeper.Step(t.Context()) {
			t.Error("the default has changed")
		}
	}
	if got := s.read(s.store.path("a.test")); got != before {
		t.Error("the copy of a.test was replaced by what HAProxy refuses")
	}
	if list := s.read(s.store.List()); strings.Contains(list, "new.test") || !strings.Contains(list, "a.test") {
		t.Errorf("the list has what HAProxy refuses, or not what it has:\n%s", list)
	}
	if got := s.problems(); !strings.Contains(got, filepath.Join(s.dir, "a.test.pem")+": ") || !strings.Contains(got, "new.test.pem") || !strings.Contains(got, "unable to load certificate chain") {
		t.Errorf("problems: %s", got)
	}
	s.proxy.refuses = nil
	s.now = s.now.Add(askAgain)
	s.keeper.Step(t.Context())
	if s.read(s.store.path("a.test")) != s.source("a.test") || !strings.Contains(s.read(s.store.List()), "new.test") {
		t.Error("what HAProxy takes now was not copied")
	}
	if got := s.problems(); got != "" {
		t.Errorf("problems: %s", got)
	}
}

// No HAProxy can be asked: what we have checked is what HAProxy starts with.
func TestStep_HAProxyDoesNotRun_CopiesWhatItStartsWith(t *testing.T) {
	s := newSite(t, "a.test")
	s.proxy.down = true
	s.sign("a.test")
	s.sign("b.test")
	s.keeper.Step(t.Context())
	if s.read(s.store.path("a.test")) != s.source("a.test") || !strings.Contains(s.read(s.store.List()), "b.test") {
		t.Error("the copies are not those of the directory")
	}
	if state := s.keeper.State(); state.Err != nil {
		t.Error(state.Err)
	}
}

// One that HAProxy refuses keeps no other from being renewed, added or removed.
func TestStep_OneIsRefused_OthersChange(t *testing.T) {
	s := newSite(t, "a.test", "b.test", "c.test", "d.test")
	s.proxy.refuses = func(path string) bool { return strings.Contains(path, "a.test") }
	s.sign("a.test")
	s.sign("b.test")
	s.sign("e.test")
	s.must(os.Remove(filepath.Join(s.dir, "d.test.pem")))
	for range 5 {
		s.keeper.Step(t.Context())
	}
	if s.proxy.has[s.store.path("b.test")] != s.source("b.test") {
		t.Error("b.test was not renewed")
	}
	if s.proxy.has[s.store.path("e.test")] != s.source("e.test") || !slices.Contains(s.proxy.order, s.store.path("e.test")) {
		t.Error("e.test was not added")
	}
	if slices.Contains(s.proxy.order, s.store.path("d.test")) {
		t.Error("d.test was not removed")
	}
}

// What OpenSSL does not load at its level 2 keeps HAProxy from starting (2.6 with all of
// these, 3.4 of another OpenSSL with the SHA-1 of others).
func TestRead_HAProxyWouldNotLoad_Refused(t *testing.T) {
	rsaKey := func(bits int) *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	t.Setenv("GODEBUG", "rsa1024min=0,x509sha1=1")
	small, usual := rsaKey(1024), rsaKey(2048)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make2 := func(subject, issuer string, alg x509.SignatureAlgorithm, key, signer any) []byte {
		t.Helper()
		var public any
		switch k := key.(type) {
		case *rsa.PrivateKey:
			public = &k.PublicKey
		case *ecdsa.PrivateKey:
			public = &k.PublicKey
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: subject}, NotAfter: time.Now().Add(time.Hour), SignatureAlgorithm: alg}
		der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	private := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	leaf := make2("a", "ca", x509.SHA256WithRSA, ec, usual)
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"good":             {slices.Concat(leaf, make2("ca", "ca", x509.SHA256WithRSA, usual, usual), private(ec)), ""},
		"intermediate":     {slices.Concat(leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no DER")}), private(ec)), "certificate 2 of 2: "},
		"small key":        {slices.Concat(make2("a", "ca", x509.SHA256WithRSA, small, usual), private(small)), "1024 bits"},
		"small CA":         {slices.Concat(leaf, make2("ca", "root", x509.SHA256WithRSA, small, usual), private(ec)), "certificate 2 of 2: RSA key of 1024 bits"},
		"SHA-1":            {slices.Concat(make2("a", "ca", x509.SHA1WithRSA, ec, usual), private(ec)), "SHA1-RSA"},
		"SHA-1 of ECDSA":   {slices.Concat(make2("a", "ca", x509.ECDSAWithSHA1, ec, ec), private(ec)), "ECDSA-SHA1"},
		"SHA-1 of a CA":    {slices.Concat(leaf, make2("ca", "root", x509.SHA1WithRSA, usual, usual), private(ec)), "certificate 2 of 2: signed with SHA1-RSA"},
		"SHA-1 of a root":  {slices.Concat(leaf, make2("ca", "ca", x509.SHA1WithRSA, usual, usual), private(ec)), ""},
		"SHA-1 of its own": {slices.Concat(make2("a", "a", x509.SHA1WithRSA, usual, usual), private(usual)), ""},
	} {
		_, err := parse("x", "x", c.content)
		if got := fmt.Sprint(err); (err != nil) != (c.want != "") || !strings.Contains(got, c.want) && c.want != "" {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// A file that is gone for a moment is about to be replaced; one that stays away is removed.
func TestStep_GoneForAMoment_StaysUntilThreeLooksMissIt(t *testing.T) {
	s := newSite(t, "a.test", "b.test")
	isThere := func() bool { return slices.Contains(s.proxy.order, s.store.path("b.test")) }
	gone := func() { s.must(os.Remove(filepath.Join(s.dir, "b.test.pem"))) }
	gone()
	for range 2 {
		s.keeper.Step(t.Context())
	}
	s.sign("b.test")
	s.keeper.Step(t.Context())
	gone()
	for range 2 {
		s.keeper.Step(t.Context())
	}
	if !isThere() {
		t.Fatal("removed before three looks in a row missed it")
	}
	s.keeper.Step(t.Context())
	if isThere() {
		t.Error("not removed")
	}
}

// HAProxy reports only the leaf for certain: a chain that has become whole is sent,
// also one that was copied while HAProxy did not answer.
func TestStep_TheChainAloneChanges_Told(t *testing.T) {
	s := newSite(t, "a.test")
	for _, down := range []bool{false, true} {
		s.certs.Sign("other.test")
		s.put("a.test", s.certs.Read("a.test.pem"), s.certs.Read("other.test.pem"), s.certs.Read("a.test-key.pem"))
		if s.proxy.down = down; down {
			s.keeper.Step(t.Context())
			s.proxy.down = false
		}
		s.keeper.Step(t.Context())
		if s.proxy.has[s.store.path("a.test")] != s.source("a.test") {
			t.Errorf("down %v: HAProxy was not told of the chain", down)
		}
		s.proxy.commands = nil
		s.keeper.Step(t.Context())
		if slices.ContainsFunc(s.proxy.commands, func(c string) bool { return strings.HasPrefix(c, "set ") }) {
			t.Errorf("down %v: told again: %q", down, s.proxy.commands)
		}
	}
}

// A list that cannot be read stops renewal, and is reported.
func TestStep_ListUnreadable_LoggedAndInTheState(t *testing.T) {
	s := newSite(t, "a.test")
	s.must(os.Remove(s.store.List()))
	s.must(os.Mkdir(s.store.List(), 0o700))
	if s.keeper.Step(t.Context()) {
		t.Error("the default has changed")
	}
	state := s.keeper.State()
	if state.Err == nil || !strings.Contains(state.Err.Error(), "crt-list") || !strings.Contains(s.log.String(), "crt-list") {
		t.Errorf("state: %v, log: %s", state.Err, s.log.String())
	}
	if len(state.Certificates) != 1 {
		t.Errorf("the state has lost what HAProxy has: %v", state.Certificates)
	}
}

// A transaction that is left open would keep HAProxy from any other certificate.
func TestStep_StoppedWithinATransaction_LeavesNoneOpen(t *testing.T) {
	s := newSite(t, "a.test", "b.test")
	ctx, stop := context.WithCancel(t.Context())
	s.proxy.stops, s.proxy.stop = "set ssl cert", stop
	s.sign("b.test")
	s.keeper.Step(ctx)
	if len(s.proxy.pending) > 0 || ctx.Err() == nil {
		t.Errorf("open: %d, stopped: %v", len(s.proxy.pending), ctx.Err())
	}
	s.proxy.stops = ""
	s.proxy.pending[s.store.path("b.test")] = "what a sidecar that was killed left"
	s.sign("a.test")
	s.keeper.Step(t.Context())
	for _, name := range []string{"a.test", "b.test"} {
		if s.proxy.has[s.store.path(name)] != s.source(name) {
			t.Errorf("%s was not renewed", name)
		}
	}
	s.proxy.pending["/of/the/operator.pem"] = "x"
	s.sign("a.test")
	s.keeper.Step(t.Context())
	if s.proxy.pending["/of/the/operator.pem"] == "" || !strings.Contains(s.problems(), "ongoing transaction") {
		t.Errorf("the operator's transaction was aborted; problems: %s", s.problems())
	}
}

// A default that has gone may be revoked: it is reported again until haproxy.cfg is without it.
func TestStep_DefaultGone_ToldUntilRendered(t *testing.T) {
	s := newSite(t, "a.test", "b.test")
	s.must(os.Remove(filepath.Join(s.dir, "a.test.pem")))
	var told []bool
	for range 5 {
		told = append(told, s.keeper.Step(t.Context()))
	}
	s.keeper.Rendered()
	told = append(told, s.keeper.Step(t.Context()))
	if want := []bool{false, false, true, true, true, false}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// A second in which nothing changes parses no key and asks HAProxy nothing.
func TestStep_NothingChanges_NeitherParsedNorAsked(t *testing.T) {
	s := newSite(t, "a.test", "b.test")
	s.now = s.now.Add(freshness + time.Second)
	step := func() (parsed, asked int) {
		s.parsed, s.proxy.commands = 0, nil
		s.keeper.Step(t.Context())
		return s.parsed, len(s.proxy.commands)
	}
	step()
	for range 5 {
		if parsed, asked := step(); parsed > 0 || asked > 0 {
			t.Fatalf("parsed %d, asked %d", parsed, asked)
		}
	}
	s.worker++
	if parsed, asked := step(); parsed > 0 || asked == 0 {
		t.Errorf("another worker: parsed %d, asked %d", parsed, asked)
	}
	s.now = s.now.Add(askAgain)
	if parsed, asked := step(); parsed > 0 || asked == 0 {
		t.Errorf("after a while: parsed %d, asked %d", parsed, asked)
	}
	s.sign("b.test")
	if parsed, asked := step(); parsed != 1 || asked == 0 {
		t.Errorf("renewed: parsed %d, asked %d", parsed, asked)
	}
	if s.proxy.has[s.store.path("b.test")] != s.source("b.test") {
		t.Error("b.test was not renewed")
	}
	if asked := s.keeper.State(); len(asked.Certificates) != 2 || asked.Err != nil {
		t.Errorf("state: %+v", asked)
	}
}
