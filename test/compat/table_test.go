package compat_test

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/compat"
)

const page = "# Page\nabove\n<!-- begin: made by make matrix -->\nold\n<!-- end: made by make matrix -->\nbelow\n"

func TestPageHasATableForEachProgramAndAColumnForEachVersion(t *testing.T) {
	got, err := compat.Page(page, strings.NewReader(`{"program":"HAProxy","version":"3.0","fact":"b","value":"yes"}
{"program":"Consul","version":"1.22","fact":"x","value":"1"}
{"program":"HAProxy","version":"2.6","fact":"a","value":"no"}
{"program":"HAProxy","version":"3.0","fact":"b","value":"yes"}
{"program":"Consul","version":"1.8","fact":"x","value":"2"}
`))
	if err != nil {
		t.Fatal(err)
	}
	const want = "# Page\nabove\n<!-- begin: made by make matrix -->\n" +
		"### Consul\n| | 1.8 | 1.22 |\n|---|---|---|\n| x | 2 | 1 |\n\n" +
		"### HAProxy\n| | 2.6 | 3.0 |\n|---|---|---|\n| a | no | not looked at |\n| b | not looked at | yes |\n\n" +
		"<!-- end: made by make matrix -->\nbelow\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPageRefusesWhatIsNoTable(t *testing.T) {
	const fact = `{"program":"HAProxy","version":"3.0","fact":"b","value":"yes"}` + "\n"
	for name, c := range map[string]struct{ page, facts, want string }{
		"two values of one fact": {page, fact + strings.Replace(fact, "yes", "no", 1), `seen as "yes" and as "no"`},
		"no facts":               {page, "", "no facts"},
		"a line that is none":    {page, "{", "fact"},
		"a page without a place": {"# Page\n", fact, "no place"},
	} {
		if _, err := compat.Page(c.page, strings.NewReader(c.facts)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}
