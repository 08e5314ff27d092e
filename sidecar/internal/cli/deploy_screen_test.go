package cli

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// terminal plays what a terminal would show of these orders.
func terminal(text string) []string {
	lines := []string{""}
	row := 0
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\n"):
			row++
			if row == len(lines) {
				lines = append(lines, "")
			}
			text = text[1:]
		case strings.HasPrefix(text, "\r\x1b[J"):
			lines = append(lines[:row], "")
			text = text[4:]
		case regexp.MustCompile(`^\x1b\[\d+A`).MatchString(text):
			end := strings.IndexByte(text, 'A')
			n := 0
			for _, c := range text[2:end] {
				n = n*10 + int(c-'0')
			}
			row -= n
			text = text[end+1:]
		default:
			lines[row] += text[:1]
			text = text[1:]
		}
	}
	return lines
}

var bars = []deploy.Bar{{Name: "lb0", Live: 1, Want: 2}, {Name: "lb1", Want: 2, Trouble: "refused\x1b[2J"}}

func TestATerminalHasABarForEachLoadBalancerBelowTheLines(t *testing.T) {
	var out bytes.Buffer
	s := newDeployScreen(&out)
	s.width = func() int { return 60 }
	s.show(bars[:1])
	s.show(bars)
	s.output("start 0", "hello \x1b[2J")
	s.show([]deploy.Bar{{Name: "lb0", Live: 2, Want: 2, Drained: 1, Of: 2}, {Name: "lb1", Live: 1, Want: 2}})
	s.say("all is well")
	got := strings.Join(terminal(out.String()), "\n")
	got = regexp.MustCompile(` +\d\.\ds`).ReplaceAllString(got, " TIME")
	want := `start 0 | hello ·[2J
deploy: TIME  all is well
  lb0          live ████████████████ 2/2   drained ████████
  lb1          live ████████░░░░░░░░ 1/2
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.end()
	s.say("the end")
	if got := terminal(out.String()); len(got) != 6 || !strings.HasSuffix(got[4], "the end") {
		t.Errorf("the bars do not stay as they are:\n%s", strings.Join(got, "\n"))
	}
}

func TestElsewhereALoadBalancerHasALineForEachEnd(t *testing.T) {
	var out bytes.Buffer
	s := newDeployScreen(&out)
	for _, b := range []deploy.Bar{
		{Name: "lb0", Want: 2},
		{Name: "lb0", Live: 1, Want: 2},
		{Name: "lb0", Live: 1, Want: 2, Trouble: "refused"},
		{Name: "lb0", Live: 1, Want: 2},
		{Name: "lb0", Live: 2, Want: 2},
		{Name: "lb0", Live: 2, Want: 2, Of: 2},
		{Name: "lb0", Live: 2, Want: 2, Drained: 1, Of: 2},
		{Name: "lb0", Live: 2, Want: 2, Drained: 2, Of: 2},
	} {
		s.show([]deploy.Bar{b})
	}
	got := regexp.MustCompile(`deploy: +\d\.\ds  `).ReplaceAllString(out.String(), "")
	want := "lb0 unreachable: refused\nlb0 reachable again\nlb0 has 2 of 2 live\nlb0 has 2 of 2 drained\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
