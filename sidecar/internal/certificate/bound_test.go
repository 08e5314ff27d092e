package certificate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/certtest"
)

func TestBound_BindLines_GivesExpiryOfEachFileOnce(t *testing.T) {
	certs, dir := certtest.New(t), t.TempDir()
	certs.Sign("a.test")
	certs.Sign("b.test")
	put := func(path string, content []byte) string {
		t.Helper()
		at := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return at
	}
	pair := func(name string) []byte { return append(certs.Read(name+"-key.pem"), certs.Read(name+".pem")...) }
	a, b := put("a.pem", pair("a.test")), put("all/b.crt", certs.Read("b.test.pem"))
	for _, other := range []string{"b.crt.key", "b.crt.ocsp", "b.crt.issuer", "b.crt.sctl", ".x", "deeper/c.pem"} {
		put("all/"+other, []byte("x"))
	}
	empty, half := put("empty.pem", nil), put("half.pem", certs.Read("a.test.pem")[:100])
	gone := filepath.Join(dir, "gone.pem")
	bound := NewBound(time.Now)
	for range 3 {
		bound.Turn()
		all, problems := bound.Read([]string{
			"*:443 ssl crt " + a + " crt " + filepath.Join(dir, "all") + " alpn h2", "*:444 ssl crt " + a, "*:445 ssl crt relative.pem", "*:446 crt",
			"*:447 ssl crt " + b + " crt " + gone + " crt " + empty + " crt " + half, "*:448 ssl crt-list " + filepath.Join(dir, "list"), "",
		})
		var got []string
		for _, c := range all {
			got = append(got, c.Name+" "+c.Source+" "+c.Names[0])
			if leaf := certs.Pair(c.Names[0]).Leaf; !c.NotAfter.Equal(leaf.NotAfter) {
				t.Errorf("%s expires %s, want %s", c.Name, c.NotAfter, leaf.NotAfter)
			}
		}
		if want := []string{a + " " + a + " a.test", b + " " + b + " b.test"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		var broken []string
		for _, p := range problems {
			broken = append(broken, p.Source)
		}
		if want := []string{empty, gone, half}; !slices.Equal(broken, want) {
			t.Errorf("problems %v, want those of %q", problems, want)
		}
	}
	put("a.pem", pair("b.test"))
	bound.Turn()
	if all, _ := bound.Read([]string{"*:443 ssl crt " + a}); len(all) != 1 || all[0].Names[0] != "b.test" {
		t.Errorf("got %+v, want the renewed one", all)
	}
}

// HAProxy loads certificates for several kinds of keys in place of a file that is not
// there (seen on 2.6 and 3.4).
func TestBound_BundleOfFiles_IsNoProblem(t *testing.T) {
	certs := certtest.New(t)
	certs.Sign("a.test")
	path := filepath.Join(t.TempDir(), "a.pem")
	if err := os.WriteFile(path+".rsa", certs.Read("a.test.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	bound := NewBound(time.Now)
	bound.Turn()
	all, problems := bound.Read([]string{"*:443 ssl crt " + path})
	if len(problems) > 0 || len(all) != 1 || all[0].Name != path+".rsa" {
		t.Errorf("got %+v and problems %v, want that of the bundle", all, problems)
	}
}
