package serveroption

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestParse_Words_GiveBothLinesAlike(t *testing.T) {
	for _, c := range []struct {
		text    string
		want    Options
		wantErr string
		inFile  bool
	}{
		{text: "", want: Options{}},
		{text: "ssl verify none", want: Options{words: []string{"ssl", "verify", "none", "check-ssl"}}},
		{text: "ssl verify none check-ssl", want: Options{words: []string{"ssl", "verify", "none", "check-ssl"}}},
		{text: "ssl verify none port 8080", want: Options{words: []string{"ssl", "verify", "none", "port", "8080"}}},
		{text: "send-proxy-v2", want: Options{words: []string{"send-proxy-v2", "check-send-proxy"}}},
		{text: "ssl verify none send-proxy", want: Options{words: []string{"ssl", "verify", "none", "send-proxy", "check-ssl", "check-send-proxy"}}},
		{text: "ssl verify none no-check-ssl", inFile: true, want: Options{words: []string{"ssl", "verify", "none", "no-check-ssl"}}},
		{text: "maxconn 2 inter 1s", want: Options{words: []string{"inter", "1s"}, MaxConn: 2}},
		{
			text: "ssl verify required ca-file /a.pem crt /b.pem",
			want: Options{words: []string{"ssl", "verify", "required", "ca-file", "/a.pem", "crt", "/b.pem", "check-ssl"}, Files: "ca-file /a.pem crt /b.pem"},
		},
		{text: "source 127.0.0.2 interface lo fall 2", want: Options{words: []string{"source", "127.0.0.2", "interface", "lo", "fall", "2"}}},
		{text: "set-proxy-v2-tlv-fmt(0x20) x", want: Options{words: []string{"set-proxy-v2-tlv-fmt(0x20)", "x"}}},

		{text: "weight 100", wantErr: `"weight" is not supported: Pointsman sets it from Consul`},
		{text: "fall 3 backup", wantErr: `"backup" is not supported`},
		{text: "check", wantErr: "check.enabled"},
		{text: "cookie a", wantErr: "sticky.cookie"},
		{text: "ssl verify", wantErr: `"verify" needs 1 argument`},
		{text: "maxconn many", wantErr: `"many" is not a number of 0 to 1000000`},
		{text: "maxconn -1", wantErr: `"-1" is not a number`},
		{text: "namespace blue", wantErr: "slots.force"},
		{text: "namespace blue", inFile: true, want: Options{words: []string{"namespace", "blue"}}},
		{text: "verify none shiny", wantErr: `unknown keyword "shiny"`},
		{text: "source", wantErr: `"source" needs 1 argument`},
		{text: "maxconn 99999999999", wantErr: "0 to 1000000"},
		{text: "agent-check agent-inter 1s", wantErr: "agent-port"},
		{text: "resolvers consul", inFile: true, wantErr: "never host names"},
	} {
		got, err := Parse(c.text, c.inFile)
		switch {
		case c.wantErr == "" && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)):
			t.Errorf("%q: got error %v, want %q", c.text, err, c.wantErr)
		case got.String() != c.want.String() || got.MaxConn != c.want.MaxConn || got.Files != c.want.Files:
			t.Errorf("%q: got %+v, want %+v", c.text, got, c.want)
		}
	}
}

// What Parse lets through it takes again, unchanged: the words are written into
// haproxy.cfg and read back from there.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"ssl verify none", "send-proxy source 127.0.0.2 usesrc clientip", "maxconn 2", "agent-check agent-port 1"} {
		f.Add(text, false)
	}
	f.Fuzz(func(t *testing.T, text string, inFile bool) {
		o, err := Parse(text, inFile)
		if err != nil {
			return
		}
		again, err := Parse(o.String(), inFile)
		if err != nil || again.String() != o.String() || again.Files != o.Files {
			t.Errorf("%q gives %q, and that %q, %v", text, o, again, err)
		}
	})
}

var update = flag.Bool("update", false, "write the tables of docs/server-options.md")

func TestReferencePage_Keywords_AreTheTable(t *testing.T) {
	const path, begin, end = "../../../docs/server-options.md", "<!-- begin: keywords -->\n", "<!-- end: keywords -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the tables", path)
	}
	want := before + begin + tables() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(page) {
		t.Errorf("%s is not what the table says; run the test with -update", path)
	}
}

func tables() string {
	var taken, inFile []string
	var refused strings.Builder
	for _, name := range slices.Sorted(maps.Keys(keywords)) {
		switch k := keywords[name]; {
		case k.refused != "":
			fmt.Fprintf(&refused, "| `%s` | %s |\n", name, k.refused)
		case k.fileOnly:
			inFile = append(inFile, "`"+name+"`")
		default:
			taken = append(taken, "`"+name+"`")
		}
	}
	return "**Supported:** " + strings.Join(taken, ", ") + ".\n\n" +
		"**Supported with `slots.force: true`** or a static `balance`, because HAProxy does not take them for a server added at runtime: " +
		strings.Join(inFile, ", ") + ".\n\n**Refused:**\n\n| keyword | reason |\n|---|---|\n" + refused.String()
}
