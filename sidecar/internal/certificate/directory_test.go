package certificate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/certtest"
)

// The three forms that a directory may have, with what is passed over and what is
// broken. Each broken file is named with its reason, and no error shows a key.
func TestRead_Directory_GivesGoodAndNamesBroken(t *testing.T) {
	certs, dir := certtest.New(t), t.TempDir()
	for _, name := range []string{"bot.test", "lego.test", "one.test", "other.test"} {
		certs.Sign(name)
	}
	put := func(path string, parts ...[]byte) {
		t.Helper()
		at := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, slices.Concat(parts...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert := func(name string) []byte { return certs.Read(name + ".pem") }
	key := func(name string) []byte { return certs.Read(name + "-key.pem") }
	link := func(to, path string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	put("archive/bot.test/fullchain1.pem", cert("bot.test"), cert("ca"))
	put("archive/bot.test/privkey1.pem", key("bot.test"))
	put("bot.test/README", []byte("x"))
	link("../archive/bot.test/fullchain1.pem", "bot.test/fullchain.pem")
	link("../archive/bot.test/privkey1.pem", "bot.test/privkey.pem")
	put("lego.test.crt", cert("lego.test"))
	put("lego.test.key", key("lego.test"))
	put("lego.test.issuer.crt", cert("ca"))
	put("one.test.pem", key("one.test"), cert("one.test"))
	put(".hidden.pem", []byte("x"))
	put("notes.txt", []byte("x"))
	put("mixed.pem", cert("one.test"), key("other.test"))
	put("nokey.pem", cert("one.test"))
	put("half.pem", cert("one.test")[:100])
	put("empty.pem")
	put("large.pem", make([]byte, maxFile+1))
	put("a b.pem", cert("one.test"), key("one.test"))
	put("lonely.crt", cert("one.test"))
	link("nowhere", "dangling.pem")

	put("half.test/privkey.pem", key("one.test"))
	put("closed.test/fullchain.pem", cert("one.test"))
	put("file.test", []byte("x"))
	closed := filepath.Join(dir, "closed.test")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closed, 0o755) })

	good, problems, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range good {
		names = append(names, c.Name)
		if !slices.Contains(c.Names, c.Name) || c.NotAfter.IsZero() {
			t.Errorf("%s: names %v, expires %s", c.Name, c.Names, c.NotAfter)
		}
	}
	if want := []string{"bot.test", "lego.test", "one.test"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	want := map[string]string{
		"mixed.pem": "private key does not match", "nokey.pem": "no private key", "half.pem": "no certificate", "empty.pem": "no certificate",
		"large.pem": "larger than 64 KiB", "a b.pem": "may have only letters", "lonely.crt": "lonely.key: no such file", "dangling.pem": "no such file",
		"half.test": "fullchain.pem: no such file", "closed.test": "permission denied",
	}
	if os.Getuid() == 0 {
		want["closed.test"] = "privkey.pem: no such file" // root reads it
	}
	for _, p := range problems {
		file := filepath.Base(p.Source)
		if file == "fullchain.pem" {
			file = nameOf(p.Source)
		}
		reason, expected := want[file]
		if !expected || !strings.Contains(p.Error(), reason) || strings.Contains(p.Error(), "PRIVATE") {
			t.Errorf("unexpected problem: %v", p)
		}
		delete(want, file)
	}
	if len(want) > 0 {
		t.Errorf("no problem with %v", want)
	}
	if _, _, err := Read(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there gave no error")
	}
}

// A broken file keeps what was there, a missing one goes, a new one comes to the end.
func TestWant_Changes_KeepTheDefaultAndTheBroken(t *testing.T) {
	all := func(names string) (out []Certificate) {
		for name := range strings.FieldsSeq(names) {
			out = append(out, Certificate{Name: name})
		}
		return out
	}
	for _, c := range []struct{ saved, good, broken, want string }{
		{"", "a b", "", "a b"},
		{"b a", "a b", "", "b a"},
		{"b a", "a", "b", "b a"},
		{"b a", "a", "", "a"},
		{"b", "a b c", "", "b a c"},
		{"", "", "a", ""},
	} {
		var got []string
		for _, w := range Want(all(c.saved), all(c.good), strings.Fields(c.broken)) {
			got = append(got, w.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}
